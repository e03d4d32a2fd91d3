import CLinux
import FoundationEssentials
import Glibc
import SystemPackage

/// A store as a file system: each snapshot is a folder of files, whose bytes come out of the store when they are
/// read.
///
/// The kernel's FUSE driver asks this program, in its own protocol. A ``ServeKeeper`` has `/dev/fuse` as well, and
/// starts another server when this one is killed: whoever reads waits a moment, and reads on.
public enum StoreMount {
  /// Room for decoded chunks: 256 of them.
  static let cacheByteCount = 16 << 20
  private static let pollMilliseconds: Int32 = 500
  /// How long a process may take to answer that was started to serve a mount.
  private static let patienceSeconds = 60.0

  /// Mounts a store, and serves it as the request says.
  ///
  /// - Throws: ``VMCheckpointError``: as ``Store/open(at:for:cancellation:)``; `notFound` for the directory or a
  ///   snapshot; `cannotCreate`, `permissionDenied` and `unavailable` when nothing can be mounted there;
  ///   `invalidArgument` when the store is below the directory.
  public static func mount(
    _ request: MountRequest,
    storePath: String,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> MountResult {
    let start = MonotonicClock.nowSeconds
    let keeper = KeeperLink(
      request.keeperCommand,
      isSilent: !request.staysInForeground,
      warn: { control.onWarning?($0) }
    )
    if let descriptor = request.keeperDescriptor {
      // This process does nothing else.
      clinux_use_one_arena()
      let legacy = try Legacy(keeper.adoptItems(descriptor))
      guard !legacy.memory.isAbandoned else {
        keeper.dismiss()
        throw VMCheckpointError(.cancelled, "nobody waits for the mount any more")
      }
      return try succeed(request, legacy, keeper, start: start, control)
    }

    // 1. What can fail, before anything is mounted.
    let store = try Store.open(at: storePath, cancellation: control.cancellation)
    let settings = try settings(of: request, store)
    let locks = store.isReadOnly ? nil : try LeaseLock.open(at: store.location, .exclusive)
    let memory = try MountMemory(settings)
    let snapshotCount = try warn(of: store, settings, control)

    // 2. The mount, and a keeper that has it.
    let device = try MountPoint.mount(on: settings.directory, settings)
    keeper.send(KeeperMessage(.device), device)
    keeper.send(KeeperMessage(.memory), memory.descriptor)
    if let locks { keeper.send(KeeperMessage(.locks), locks.rawValue) }
    do throws(VMCheckpointError) {
      if request.staysInForeground {
        try keeper.start()
        return try serve(
          request,
          store,
          Legacy(device: device, memory: memory, locks: locks, isSuccessor: false),
          keeper,
          start: start,
          control
        )
      }
      // The daemon keeps no directory in use.
      chdir("/")
      try keeper.start()
      keeper.leave()
      close(device)
      try waitForAnswer(memory, control)
    } catch {
      memory.isAbandoned = true
      try? MountPoint.unmount(settings.directory, isLazy: true)
      keeper.dismiss()
      throw error
    }
    return MountResult(
      directory: settings.directory,
      snapshotCount: snapshotCount,
      isMounted: true,
      hasLeases: locks != nil,
      counts: nil,
      durationSeconds: MonotonicClock.nowSeconds - start
    )
  }

  /// Takes a mount away, whose server ends then.
  ///
  /// - Parameter isLazy: Whether it goes at once, while who has files open keeps them until they are closed.
  /// - Returns: The mount's absolute path.
  /// - Throws: ``VMCheckpointError``: `notFound` when no store is mounted there, `locked` when it is in use.
  public static func unmount(
    _ directory: String,
    isLazy: Bool = false
  ) throws(VMCheckpointError) -> String {
    let path = try MountPoint.path(ofMount: directory)
    try MountPoint.unmount(path, isLazy: isLazy)
    return path
  }

  /// Whether this user may mount here, as far as that can be known without trying.
  package static var mayMount: Bool { MountPoint.mayMount }

  /// What a server needs of the one before, or of who has mounted.
  private struct Legacy {
    var device: Int32
    var memory: MountMemory
    var locks: FileDescriptor?
    /// Whether a keeper has started this process: requests may have been handed to one before.
    var isSuccessor: Bool

    init(device: Int32, memory: MountMemory, locks: FileDescriptor?, isSuccessor: Bool) {
      self.device = device
      self.memory = memory
      self.locks = locks
      self.isSuccessor = isSuccessor
    }

    init(
      _ items: [(message: KeeperMessage, attachment: Int32?)]
    ) throws(VMCheckpointError) {
      func find(_ kind: KeeperMessage.Kind) -> Int32? {
        items.first { $0.message.kind == kind }?.attachment
      }
      guard let device = find(.device), let memory = find(.memory) else {
        throw VMCheckpointError(.unavailable, "the keeper of a mount has sent no device")
      }
      self.device = device
      self.memory = try MountMemory(adopting: memory)
      locks = find(.locks).map { FileDescriptor(rawValue: $0) }
      isSuccessor = true
    }
  }

  // MARK: Beginning

  private static func settings(
    of request: MountRequest,
    _ store: Store
  ) throws(VMCheckpointError) -> MountMemory.Settings {
    let directory = try MountPoint.path(of: request.directory)
    let storePath = store.location.file
    // The server would wait for itself.
    guard !FilePath(storePath).starts(with: FilePath(directory)) else {
      throw VMCheckpointError(
        .invalidArgument,
        "the store \(quotedName(storePath)) is below directory \(quotedName(directory)), and would be "
          + "hidden by the mount",
        hint: "mount on another directory"
      )
    }
    var uuids: [String]?
    if !request.references.isEmpty {
      uuids = try store.read { database in
        try request.references.map { try SnapshotCatalog.resolve($0, in: database).uuid }
      }
    }
    return MountMemory.Settings(
      directory: directory,
      storePath: storePath,
      uuids: uuids,
      storeSeed: try store.read { try StoreSeed($0) },
      allowsOthers: request.allowsOthers,
      isUnprivileged: geteuid() != 0,
      user: geteuid(),
      group: getegid()
    )
  }

  /// Warns of what whoever mounts should know.
  ///
  /// - Returns: How many snapshots there are.
  private static func warn(
    of store: Store,
    _ settings: MountMemory.Settings,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> Int {
    let catalog = try MountCatalog(store, only: settings.uuids.map { Set($0) })
    let snapshots = catalog.tree.snapshots
    if store.isReadOnly {
      control.onWarning?(
        "store \(quotedName(store.path)) is read-only, so that there are no leases: gc and optimize wait "
          + "for as long as it is mounted"
      )
    }
    for id in try MountCatalog.snapshotsWithAbsentPages(store) {
      guard let snapshot = snapshots[id] else { continue }
      control.onWarning?(
        "snapshot \(quotedName(snapshot.name)) has absent pages, because the dump that it was saved from "
          + "left them out; they are read as zeros"
      )
    }
    return snapshots.count
  }

  /// Waits until the process answers that serves the mount.
  private static func waitForAnswer(
    _ memory: MountMemory,
    _ control: OperationControl
  ) throws(VMCheckpointError) {
    let deadline = MonotonicClock.nowSeconds + patienceSeconds
    while !memory.isReady {
      try control.cancellation.check()
      guard MonotonicClock.nowSeconds < deadline else {
        throw VMCheckpointError(
          .unavailable,
          "the process that is to serve the mount does not answer",
          hint: "see why, with --foreground"
        )
      }
      usleep(2000)
    }
  }

  // MARK: Serving

  /// Serves in place of a server that is gone.
  ///
  /// - Throws: ``VMCheckpointError`` when that cannot be, and the keeper tries again: whoever reads waits, for a store
  ///   may come back. When the mount was taken away, the keeper is told to end.
  private static func succeed(
    _ request: MountRequest,
    _ legacy: Legacy,
    _ keeper: KeeperLink,
    start: Double,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> MountResult {
    let (memory, settings) = (legacy.memory, legacy.memory.settings)
    do throws(VMCheckpointError) {
      let store = try Store.open(at: settings.storePath, cancellation: control.cancellation)
      try requireSame(store, memory)
      return try serve(request, store, legacy, keeper, start: start, control)
    } catch {
      // Who has taken the mount away waits for nothing of it, and who still has its files open gets errors.
      let isLasting = [.notFound, .unavailable, .corrupt].contains(error.code)
      guard !isLasting || MountPoint.readMounts()?.contains(settings.directory) != false else {
        keeper.dismiss()
        throw error
      }
      memory.failedStartCount &+= 1
      // Now and then, for as long as it lasts.
      if memory.failedStartCount.nonzeroBitCount == 1 {
        clinux_log_warning(
          "mount \(settings.directory): \(error.message); programs that read its files wait until the store is "
            + "back, or until you run: vmckpt unmount --lazy DIR"
        )
      }
      throw error
    }
  }

  /// Checks that a store is the one that was mounted: another may have come to its path, whose pages would be taken for
  /// those of files that are open, or that the kernel keeps.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `unavailable`.
  private static func requireSame(
    _ store: Store,
    _ memory: MountMemory
  ) throws(VMCheckpointError) {
    let seed = try store.read { try StoreSeed($0) }
    let snapshots = try MountCatalog(store, only: nil).tree.snapshots
    let isSame = memory.notedUUIDs.allSatisfy { id, uuids in
      // Whose lease was dropped may be deleted, and its files give errors.
      guard let snapshot = snapshots[id] else { return true }
      return uuids.allSatisfy { $0.uuidString.lowercased() == snapshot.uuid.lowercased() }
    }
    guard isSame, memory.settings.storeSeed ?? seed == seed else {
      throw VMCheckpointError(
        .unavailable,
        "\(quotedName(store.path)) is not the store that was mounted: another one is at its path",
        hint: "put the store back, or take the mount away with: vmckpt unmount --lazy DIR"
      )
    }
  }

  private static func serve(
    _ request: MountRequest,
    _ store: Store,
    _ legacy: Legacy,
    _ keeper: KeeperLink,
    start: Double,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> MountResult {
    let settings = legacy.memory.settings
    let isInForeground = request.staysInForeground
    let warn: @Sendable (String) -> Void = { message in
      control.onWarning?(message)
      // Nobody reads what a daemon prints.
      if !isInForeground { clinux_log_warning("mount \(settings.directory): \(message)") }
    }

    // 1. Whatever is open keeps its snapshot.
    let catalog = try MountCatalog(store, only: settings.uuids.map { Set($0) })
    let leases = try MountLeases(
      store,
      directory: settings.directory,
      locks: legacy.locks,
      cancellation: control.cancellation,
      warn: warn
    )
    let snapshots = catalog.tree.snapshots
    try leases.takeUp(legacy.memory.openSnapshots.compactMap { snapshots[$0] })

    // 2. Threads that answer; those first that asked the server before.
    let stop = try ServeStop()
    let cache = try ChunkCache(byteCapacity: cacheByteCount)
    cache.populate()
    let contents = MountContents(
      store,
      storePath: settings.storePath,
      forms: request.forms,
      describe: request.describe,
      cache: cache,
      warn: warn
    )
    let view = MountView(settings, catalog, contents)
    let workingSets = MountWorkingSets(
      store,
      recordingSeconds: request.recordingSeconds,
      warn: warn
    )
    let service = MountService(
      device: legacy.device,
      memory: legacy.memory,
      leases: leases,
      view: view,
      contents: contents,
      workingSets: workingSets,
      stop: stop,
      warn: warn
    )
    if legacy.isSuccessor {
      guard legacy.memory.canResend || !legacy.memory.isReady else {
        // Who waits would wait for ever: an error is better.
        try? MountPoint.unmount(settings.directory, isLazy: true)
        try leases.releaseAll()
        keeper.dismiss()
        throw VMCheckpointError(
          .unavailable,
          "the server of a mount was killed, and the kernel cannot ask another one",
          hint: "that needs Linux 6.9"
        )
      }
      _ = FUSEReply.resendNotice.withUnsafeBytes {
        write(legacy.device, $0.baseAddress, $0.count)
      }
    }
    let threads = try service.start()
    legacy.memory.failedStartCount = 0
    if !legacy.isSuccessor { try waitForAnswer(legacy.memory, control) }
    request.onReady?(
      MountReady(
        directory: request.directory,
        snapshotCount: snapshots.count,
        isSuccessor: legacy.isSuccessor
      )
    )

    // 3. Until the mount is gone.
    wait(stop, keeper, service, settings, control)
    service.endErrands()
    contents.endBringing()
    for thread in threads { thread.join() }
    workingSets.end()
    do throws(VMCheckpointError) {
      try leases.releaseAll()
    } catch {
      warn("cannot remove a lease: \(error.message); see: vmckpt lease list")
    }
    keeper.dismiss()
    return MountResult(
      directory: settings.directory,
      snapshotCount: view.snapshotCount,
      isMounted: false,
      hasLeases: legacy.locks != nil,
      counts: service.counts,
      durationSeconds: MonotonicClock.nowSeconds - start
    )
  }

  /// Waits until the mount is gone, which it is soon after the control is cancelled; who has files open then keeps
  /// them until they are closed.
  private static func wait(
    _ stop: ServeStop,
    _ keeper: KeeperLink,
    _ service: MountService,
    _ settings: MountMemory.Settings,
    _ control: OperationControl
  ) {
    var isUnmounted = false
    while !stop.isRequested {
      if control.cancellation.isCancelled, !isUnmounted {
        isUnmounted = true
        do throws(VMCheckpointError) {
          try MountPoint.unmount(settings.directory, isLazy: true)
        } catch {
          control.onWarning?(error.message)
        }
      }
      keeper.check()
      service.storeWorkingSets()
      var requests = [
        pollfd(fd: stop.descriptor, events: Int16(POLLIN), revents: 0),
        pollfd(fd: keeper.descriptor, events: Int16(POLLIN), revents: 0),
      ]
      poll(&requests, nfds_t(requests.count), pollMilliseconds)
    }
  }
}
