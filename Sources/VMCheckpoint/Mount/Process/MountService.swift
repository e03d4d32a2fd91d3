import CLinux
import Glibc
import Synchronization

/// Answers the kernel's requests for the files of a mount.
///
/// Nothing is kept that a server after this one would lack: nodes have numbers that mean the same to all
/// (``MountNode``), and open files are in ``MountMemory``. So it does not matter which server answers a request.
///
/// Some threads take requests from `/dev/fuse` and answer them. What writes to the store, opening and closing files
/// with RAM, goes to a thread of its own: a guest that waits for a page never waits for a lease.
final class MountService: @unchecked Sendable {
  // Unchecked: the thread for opening alone uses `memory`, `leases` and `warned` through their locks.

  static let threadCount = 4
  /// What one request reads at most: the kernel's own limit.
  private static let maximumPageCount = 256
  private static let readCapacity = maximumPageCount << Page.shift
  /// For how long names may be taken for what they were: snapshots come and go.
  private static let changingSeconds: UInt64 = 1
  private static let lastingSeconds: UInt64 = 1 << 30
  private static let retryMilliseconds: UInt32 = 20

  /// A file that is to be opened, or was closed.
  private enum Errand {
    case open(FUSERequest, MountedSnapshot)
    case release(FUSERequest, handle: UInt64)
  }

  let device: Int32
  let counter = MountCounter()
  private let owner: FUSEOwner
  private let allowsOthers: Bool
  private let catalog: MountCatalog
  private let contents: MountContents
  private let warn: @Sendable (String) -> Void
  private let warned = Mutex(Set<String>())
  private let stop: ServeStop
  private let liveThreadCount = Atomic<Int>(0)

  private let monitor = Monitor(conditionCount: 1)
  private static var changed: Monitor.Condition { .init(0) }
  // Only under the monitor.
  private var errands: [Errand] = []
  private var isEnding = false
  /// Snapshots with open files, as of now.
  private let openSnapshots: Mutex<Set<Int64>>
  // Only the thread for errands uses these once it runs.
  private let memory: MountMemory
  private let leases: MountLeases

  init(
    device: Int32,
    memory: MountMemory,
    leases: MountLeases,
    catalog: MountCatalog,
    contents: MountContents,
    stop: ServeStop,
    warn: @escaping @Sendable (String) -> Void
  ) {
    self.device = device
    self.memory = memory
    self.leases = leases
    self.catalog = catalog
    self.contents = contents
    self.stop = stop
    self.warn = warn
    owner = FUSEOwner(user: memory.settings.user, group: memory.settings.group)
    allowsOthers = memory.settings.allowsOthers
    openSnapshots = Mutex(memory.openSnapshots)
  }

  var counts: MountCounts {
    var counts = counter.counts
    counts.decodedChunkCount = contents.decodedChunkCount
    return counts
  }

  /// How many snapshots are shown.
  var snapshotCount: Int { catalog.tree.snapshots.count }

  /// Starts all threads. When the mount is gone they end, and ask `stop`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  func start() throws(VMCheckpointError) -> [WorkerThreads] {
    let errands = try WorkerThreads(count: 1) { [self] in runErrands() }
    liveThreadCount.store(Self.threadCount, ordering: .releasing)
    let threads = try WorkerThreads(count: Self.threadCount) { [self] in
      answerRequests()
      if liveThreadCount.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 {
        stop.request()
      }
    }
    return [threads, errands]
  }

  /// Lets the thread for errands end when there is nothing left for it.
  func endErrands() {
    monitor.withLock {
      isEnding = true
      monitor.wakeAll(Self.changed)
    }
  }

  // MARK: Requests

  private func answerRequests() {
    guard
      let request = try? LargeMemory.allocate(byteCount: FUSERequest.maximumByteCount),
      // The data begins at a page, for the kernel to copy it fast.
      let answer = try? LargeMemory.allocate(byteCount: Page.byteCount + Self.readCapacity)
    else { return }
    defer {
      LargeMemory.free(request)
      LargeMemory.free(answer)
    }
    let start = Page.byteCount - FUSEReply.headerByteCount
    let reply = UnsafeMutableRawBufferPointer(rebasing: answer[start...])
    while true {
      let count = Glibc.read(device, request.baseAddress, request.count)
      guard count > 0 else {
        // A request that was withdrawn meanwhile is ENOENT; without the mount it is ENODEV.
        if count < 0, [EINTR, EAGAIN, ENOENT].contains(errno) { continue }
        return
      }
      let bytes = UnsafeRawBufferPointer(rebasing: request[..<count])
      if let parsed = FUSERequest(bytes) {
        answerRequest(parsed, reply)
      } else if let unique = FUSERequest.unique(of: bytes) {
        send(unique, .error(EINVAL), reply)
      }
    }
  }

  private enum Answer {
    /// So many bytes stand behind the header.
    case bytes(Int)
    case error(Int32)
    /// Another thread answers, or nobody.
    case none
  }

  private func answerRequest(_ request: FUSERequest, _ reply: UnsafeMutableRawBufferPointer) {
    let body = UnsafeMutableRawBufferPointer(rebasing: reply[FUSEReply.headerByteCount...])
    let answer: Answer
    do throws(VMCheckpointError) {
      answer = try self.answer(request, body)
    } catch {
      if error.code != .notFound { warnOnce(error.message) }
      answer = .error(Self.errorNumber(error))
    }
    send(request.unique, answer, reply)
  }

  /// - Returns: Whether the kernel took the answer: it does not when the request was withdrawn.
  @discardableResult
  private func send(
    _ unique: UInt64,
    _ answer: Answer,
    _ reply: UnsafeMutableRawBufferPointer
  ) -> Bool {
    var (error, byteCount): (Int32, Int) = (0, 0)
    switch answer {
    case .bytes(let count): byteCount = count
    case .error(let number): error = number
    case .none: return true
    }
    FUSEReply.writeHeader(to: reply, unique: unique, error: error, byteCount: byteCount)
    while true {
      let count = write(device, reply.baseAddress, FUSEReply.headerByteCount + byteCount)
      if count >= 0 { return true }
      guard errno == EINTR || errno == EAGAIN else { return false }
    }
  }

  private static func errorNumber(_ error: VMCheckpointError) -> Int32 {
    switch error.code {
    case .notFound: ENOENT
    case .permissionDenied: EACCES
    case .locked: EBUSY
    case .outOfResources: ENOMEM
    default: EIO
    }
  }

  private func warnOnce(_ message: String) {
    let isNew = warned.withLock { $0.count < 256 && $0.insert(message).inserted }
    if isNew { warn(message) }
  }

  private func answer(
    _ request: FUSERequest,
    _ body: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> Answer {
    var reply = FUSEReply(body)
    switch request.operation {
    case .unanswered: return .none
    case .nothing, .releaseDirectory: return .bytes(0)
    case .change: return .error(EROFS)
    case .unknown: return .error(ENOSYS)
    case .initialize(let major, let minor, let maximumReadahead, let flags):
      return initialize(major, minor, maximumReadahead, flags, &reply)
    case .statistics:
      let tree = catalog.tree
      reply.appendStatistics(blockCount: 0, fileCount: UInt64(tree.snapshots.count))
    default:
      guard let node = MountNode(request.node) else { return .error(ENOENT) }
      return try answer(request, of: node, &reply, body)
    }
    return .bytes(reply.byteCount)
  }

  private func initialize(
    _ major: UInt32,
    _ minor: UInt32,
    _ maximumReadahead: UInt32,
    _ flags: UInt64,
    _ reply: inout FUSEReply
  ) -> Answer {
    // 7.31 is that of Linux 5.4; before 7.23 answers have other sizes.
    guard major == 7, minor >= 31 else { return .error(EPROTO) }
    let wanted =
      FUSEFlag.asynchronousRead | FUSEFlag.readDirectoryPlus | FUSEFlag.readDirectoryPlusAuto
      | FUSEFlag.parallelDirectoryOperations | FUSEFlag.maximumPages
      | FUSEFlag.explicitInvalidation | UInt64(FUSEFlag.extended) | FUSEFlag.resend
    memory.canResend = flags & FUSEFlag.resend != 0
    reply.appendInitialization(
      minor: min(minor, 40),
      maximumReadahead: maximumReadahead,
      flags: wanted & flags,
      maximumPageCount: UInt16(Self.maximumPageCount)
    )
    memory.isReady = true
    return .bytes(reply.byteCount)
  }

  private func answer(
    _ request: FUSERequest,
    of node: MountNode,
    _ reply: inout FUSEReply,
    _ body: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> Answer {
    switch request.operation {
    case .lookUp(let name):
      guard let attributes = try lookUp(name, in: node) else { return .error(ENOENT) }
      reply.appendEntry(attributes, owner)
    case .attributes:
      guard let attributes = try attributes(of: node) else { return .error(ENOENT) }
      reply.appendAttributes(attributes, owner)
    case .readLink:
      guard let target = catalog.tree.link(node)?.target else { return .error(EINVAL) }
      reply.append(target.utf8)
    case .openDirectory:
      reply.appendOpen(handle: 0, flags: 0)
    case .readDirectory(let offset, let byteCount, let withAttributes):
      guard let entries = try entries(of: node) else { return .error(ENOENT) }
      append(entries, from: offset, limit: byteCount, withAttributes, to: &reply)
    case .open: return try open(request, node, &reply)
    case .release(let handle):
      guard handle != 0 else { return .bytes(0) }
      add(.release(request, handle: handle))
      return .none
    case .read(let offset, let byteCount): return try read(node, offset, byteCount, body)
    case .seek(let offset, let whence): return try seek(node, offset, whence, &reply)
    default: return .error(ENOSYS)
    }
    return .bytes(reply.byteCount)
  }

  // MARK: Names and attributes

  private func mode(_ mode: UInt32) -> UInt32 {
    guard allowsOthers else { return mode }
    switch mode {
    // QEMU opens RAM for writing, and every write is refused.
    case SnapshotFiles.fileMode: return mode | 0o066
    case SnapshotFiles.scriptMode: return mode | 0o055
    default: return mode | 0o055
    }
  }

  private func folderAttributes(
    _ node: MountNode,
    timeSeconds: UInt64,
    isLasting: Bool = false
  ) -> FUSEAttributes {
    var attributes = FUSEAttributes(
      node: node.number,
      mode: mode(SnapshotFiles.folderMode),
      validSeconds: isLasting ? Self.lastingSeconds : Self.changingSeconds,
      entryValidSeconds: isLasting ? Self.lastingSeconds : Self.changingSeconds
    )
    attributes.timeSeconds = timeSeconds
    return attributes
  }

  private func attributes(_ item: MountTree.Item) -> FUSEAttributes {
    guard let target = item.target else {
      return folderAttributes(item.node, timeSeconds: item.timeSeconds)
    }
    var attributes = FUSEAttributes(
      node: item.node.number,
      mode: SnapshotFiles.linkMode,
      validSeconds: Self.changingSeconds,
      entryValidSeconds: Self.changingSeconds
    )
    attributes.byteCount = UInt64(target.utf8.count)
    attributes.timeSeconds = item.timeSeconds
    return attributes
  }

  private func attributes(
    _ file: SnapshotFiles.File,
    _ files: SnapshotFiles
  ) -> FUSEAttributes {
    let node = MountNode.file(snapshot: files.snapshot.id, file: file.number)
    guard file.number != SnapshotFiles.deviceStatesNumber else {
      return folderAttributes(
        node,
        timeSeconds: files.snapshot.completedSeconds,
        isLasting: true
      )
    }
    // Tags and relatives change.
    let isChanging = file.number == SnapshotFiles.descriptionNumber
    var attributes = FUSEAttributes(
      node: node.number,
      mode: mode(file.mode),
      validSeconds: isChanging ? 0 : Self.lastingSeconds,
      entryValidSeconds: Self.lastingSeconds
    )
    attributes.byteCount = file.byteCount
    attributes.blockCount =
      file.holdsRAM
      ? min(files.storedPageCount << 3, file.byteCount >> 9) : (file.byteCount + 511) >> 9
    attributes.timeSeconds = files.snapshot.completedSeconds
    return attributes
  }

  /// The snapshot whose folder, or file, the node is, and its files.
  private func files(
    _ id: Int64
  ) throws(VMCheckpointError) -> SnapshotFiles? {
    guard let snapshot = catalog.tree.snapshots[id] else { return nil }
    return try contents.files(of: snapshot)
  }

  private func lookUp(
    _ name: String,
    in node: MountNode
  ) throws(VMCheckpointError) -> FUSEAttributes? {
    let tree = catalog.tree
    if case .file(let id, SnapshotFiles.deviceStatesNumber) = node {
      guard let files = try files(id), let file = files.file(named: name, inDeviceStates: true)
      else { return nil }
      return attributes(file, files)
    }
    if let snapshot = tree.snapshot(node) {
      let files = try contents.files(of: snapshot)
      if let file = files.file(named: name, inDeviceStates: false) {
        return attributes(file, files)
      }
    }
    return tree.folder(node)?.item(named: name).map { attributes($0) }
  }

  private func attributes(of node: MountNode) throws(VMCheckpointError) -> FUSEAttributes? {
    let tree = catalog.tree
    switch node {
    case .root, .byName, .byVM:
      return folderAttributes(node, timeSeconds: tree.folder(node)?.timeSeconds ?? 0)
    case .named:
      if let link = tree.link(node) { return attributes(link) }
      return tree.folder(node).map { folderAttributes(node, timeSeconds: $0.timeSeconds) }
    case .snapshot(let id):
      return tree.snapshots[id].map {
        folderAttributes(node, timeSeconds: $0.completedSeconds)
      }
    case .file(let id, let number):
      guard let files = try files(id) else { return nil }
      if number == SnapshotFiles.deviceStatesNumber {
        return folderAttributes(
          node,
          timeSeconds: files.snapshot.completedSeconds,
          isLasting: true
        )
      }
      return files.file(number).map { attributes($0, files) }
    }
  }

  // MARK: Folders

  private typealias Entry = (name: String, cookie: UInt64, attributes: FUSEAttributes)

  /// What is in a folder, in ascending order of cookies; `nil` when it is not one, or gone.
  private func entries(of node: MountNode) throws(VMCheckpointError) -> [Entry]? {
    let tree = catalog.tree
    func entry(_ file: SnapshotFiles.File, _ files: SnapshotFiles) -> Entry {
      (file.name, MountNode.cookie(of: file.name), attributes(file, files))
    }
    if case .file(let id, SnapshotFiles.deviceStatesNumber) = node {
      guard let files = try files(id) else { return nil }
      return files.deviceStates.map { entry($0, files) }.sorted { $0.cookie < $1.cookie }
    }
    let folder = tree.folder(node)
    let below = folder?.items.map { ($0.name, $0.cookie, attributes($0)) } ?? []
    guard let snapshot = tree.snapshot(node) else { return folder == nil ? nil : below }
    let files = try contents.files(of: snapshot)
    let own = files.files.map { entry($0, files) }
    let names = Set(own.map(\.name))
    return (own + below.filter { !names.contains($0.0) }).sorted { $0.cookie < $1.cookie }
  }

  private func append(
    _ entries: [Entry],
    from offset: UInt64,
    limit: Int,
    _ withAttributes: Bool,
    to reply: inout FUSEReply
  ) {
    var dots = FUSEAttributes(
      node: MountNode.root.number,
      mode: SnapshotFiles.folderMode,
      validSeconds: 0,
      entryValidSeconds: 0
    )
    dots.byteCount = 0
    for (name, cookie) in [(".", UInt64(1)), ("..", 2)] where cookie > offset {
      guard
        reply.appendDirectoryEntry(
          name,
          dots,
          cookie: cookie,
          withAttributes: withAttributes,
          isListed: false,
          owner,
          limit: limit
        )
      else { return }
    }
    for entry in entries where entry.cookie > offset {
      guard
        reply.appendDirectoryEntry(
          entry.name,
          entry.attributes,
          cookie: entry.cookie,
          withAttributes: withAttributes,
          isListed: true,
          owner,
          limit: limit
        )
      else { return }
    }
  }

  // MARK: Files

  private func file(
    _ node: MountNode
  ) throws(VMCheckpointError) -> (file: SnapshotFiles.File, files: SnapshotFiles)? {
    guard case .file(let id, let number) = node, let files = try files(id),
      let file = files.file(number)
    else { return nil }
    return (file, files)
  }

  private func open(
    _ request: FUSERequest,
    _ node: MountNode,
    _ reply: inout FUSEReply
  ) throws(VMCheckpointError) -> Answer {
    guard let (file, files) = try file(node) else { return .error(ENOENT) }
    if file.holdsRAM {
      if files.absentPageCount > 0 {
        warnOnce(
          "\(files.absentPageCount) pages of snapshot \(quotedName(files.snapshot.name)) are absent, "
            + "because the dump that it was saved from left them out; they are read as zeros"
        )
      }
      add(.open(request, files.snapshot))
      return .none
    }
    let isChanging = file.number == SnapshotFiles.descriptionNumber
    reply.appendOpen(
      handle: 0,
      flags: FUSEFlag.openWithoutFlush
        | (isChanging ? FUSEFlag.openIsDirect : FUSEFlag.openKeepsCache)
    )
    return .bytes(reply.byteCount)
  }

  private func read(
    _ node: MountNode,
    _ offset: UInt64,
    _ byteCount: Int,
    _ body: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> Answer {
    guard let (file, files) = try file(node) else { return .error(EIO) }
    guard byteCount <= Self.readCapacity else { return .error(EINVAL) }
    let bytes: [UInt8]
    switch file.contents {
    case .ram(let ram):
      return try readRAM(ram, file, files.snapshot, node, offset, byteCount, body)
    case .bytes(let load): bytes = try contents.bytes(node, of: files.snapshot, load: load)
    case .description: bytes = try contents.description(of: files.snapshot)
    case .folder: return .error(EISDIR)
    }
    guard offset < UInt64(bytes.count) else { return .bytes(0) }
    let part = bytes[Int(offset)...].prefix(byteCount)
    body.copyBytes(from: part)
    return .bytes(part.count)
  }

  private func readRAM(
    _ ram: MountedRAM,
    _ file: SnapshotFiles.File,
    _ snapshot: MountedSnapshot,
    _ node: MountNode,
    _ offset: UInt64,
    _ byteCount: Int,
    _ body: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> Answer {
    guard offset < ram.byteCount else { return .bytes(0) }
    let count = Int(min(UInt64(byteCount), ram.byteCount - offset))
    let buffer = UnsafeMutableRawBufferPointer(rebasing: body[..<count])
    let start = Self.nanoseconds
    while true {
      do throws(VMCheckpointError) {
        let reader = try contents.reader(of: file, ram, in: snapshot, isOpen: isOpen)
        try ram.read(
          from: offset,
          into: buffer,
          reader,
          headBytes: { () throws(VMCheckpointError) in
            guard let head = ram.head else { return [] }
            return try contents.head(node, head, reader)
          },
          touch: { touch($0, of: snapshot) }
        )
        counter.addRead(byteCount: count, nanoseconds: Self.nanoseconds - start)
        return .bytes(count)
      } catch {
        // A VM dies of an error. So what will pass is waited for; damage will not.
        guard error.code == .locked || error.code == .outOfResources else {
          counter.addFailure()
          warnOnce(error.message)
          return .error(EIO)
        }
        warnOnce(error.message)
        usleep(Self.retryMilliseconds * 1000)
      }
    }
  }

  /// Pages are about to be read that the kernel has not in its memory: all first touches come by here, in order.
  private func touch(_ pfns: Range<UInt64>, of snapshot: MountedSnapshot) {}

  private static var nanoseconds: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  private func seek(
    _ node: MountNode,
    _ offset: UInt64,
    _ whence: UInt32,
    _ reply: inout FUSEReply
  ) throws(VMCheckpointError) -> Answer {
    guard let (file, files) = try file(node) else { return .error(ENOENT) }
    let whence = Int32(truncatingIfNeeded: whence)
    guard whence == clinux_seek_data || whence == clinux_seek_hole else { return .error(EINVAL) }
    let forData = whence == clinux_seek_data
    guard case .ram(let ram) = file.contents else {
      guard offset < file.byteCount else { return .error(ENXIO) }
      reply.append(forData ? offset : file.byteCount)
      return .bytes(reply.byteCount)
    }
    let reader = try contents.reader(of: file, ram, in: files.snapshot, isOpen: isOpen)
    guard let found = ram.seek(from: offset, forData: forData, reader) else {
      return .error(ENXIO)
    }
    reply.append(found)
    return .bytes(reply.byteCount)
  }

  private func isOpen(_ snapshot: Int64) -> Bool {
    openSnapshots.withLock { $0.contains(snapshot) }
  }

  // MARK: Errands

  private func add(_ errand: Errand) {
    monitor.withLock {
      errands.append(errand)
      monitor.wakeAll(Self.changed)
    }
  }

  private func runErrands() {
    guard let answer = try? LargeMemory.allocate(byteCount: Page.byteCount) else { return }
    defer { LargeMemory.free(answer) }
    while true {
      let errand = monitor.withLock { () -> Errand? in
        while errands.isEmpty, !isEnding { monitor.wait(for: Self.changed) }
        return errands.isEmpty ? nil : errands.removeFirst()
      }
      switch errand {
      case .none: return
      case .open(let request, let snapshot): open(request, snapshot, answer)
      case .release(let request, let handle):
        release(handle)
        send(request.unique, .bytes(0), answer)
      }
    }
  }

  private func open(
    _ request: FUSERequest,
    _ snapshot: MountedSnapshot,
    _ answer: UnsafeMutableRawBufferPointer
  ) {
    let handle = request.lasting
    do throws(VMCheckpointError) {
      try leases.hold(snapshot)
    } catch {
      warnOnce(error.message)
      send(request.unique, .error(Self.errorNumber(error)), answer)
      return
    }
    guard memory.add(.init(handle: handle, snapshot: snapshot.id)) else {
      releaseLease(snapshot.id, unlessOpen: true)
      send(request.unique, .error(ENFILE), answer)
      return
    }
    _ = openSnapshots.withLock { $0.insert(snapshot.id) }
    var reply = FUSEReply(
      UnsafeMutableRawBufferPointer(rebasing: answer[FUSEReply.headerByteCount...])
    )
    reply.appendOpen(
      handle: handle,
      flags: FUSEFlag.openKeepsCache | FUSEFlag.openWithoutFlush
    )
    // Who wanted to open it is gone: nobody will close it.
    if !send(request.unique, .bytes(reply.byteCount), answer) { release(handle) }
  }

  private func release(_ handle: UInt64) {
    guard let snapshot = memory.remove(handle) else { return }
    releaseLease(snapshot, unlessOpen: false)
    _ = openSnapshots.withLock { $0.remove(snapshot) }
  }

  private func releaseLease(_ snapshot: Int64, unlessOpen: Bool) {
    if unlessOpen, memory.isOpen(snapshot) { return }
    do throws(VMCheckpointError) {
      try leases.release(snapshot)
    } catch {
      warnOnce("cannot remove a lease: \(error.message); see: vmckpt lease list")
    }
  }
}
