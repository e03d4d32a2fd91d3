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
  private static let retryMilliseconds: UInt32 = 20

  /// What no thread that answers is to wait for.
  enum Errand {
    case open(FUSERequest, MountedSnapshot, OpenedRAM)
    case release(FUSERequest, handle: UInt64)
    /// A working set was recorded.
    case storeWorkingSet(snapshot: Int64)
    /// Part of a file is not in the kernel's memory what it is in the store.
    case forget(node: UInt64, offset: UInt64, byteCount: Int)
  }

  /// A file with RAM that is being opened.
  struct OpenedRAM: Sendable {
    var file: SnapshotFiles.File
    var ram: MountedRAM
    var isForWriting: Bool
  }

  let device: Int32
  let counter = MountCounter()
  private let view: MountView
  let contents: MountContents
  private let warn: @Sendable (String) -> Void
  private let warned = Mutex(Set<String>())
  let stop: ServeStop
  private let liveThreadCount = Atomic<Int>(0)
  /// Reads that are being answered.
  let readingCount = Atomic<Int>(0)
  let workingSets: MountWorkingSets

  let monitor = Monitor(conditionCount: 1)
  static var changed: Monitor.Condition { .init(0) }
  // Only under the monitor.
  var errands: [Errand] = []
  var plays: [(player: MountPlayer, set: WorkingSet)] = []
  var isEnding = false
  /// Snapshots with open files, as of now.
  let openSnapshots: Mutex<Set<Int64>>
  // Only the thread for errands uses these once it runs.
  let memory: MountMemory
  let leases: MountLeases

  init(
    device: Int32,
    memory: MountMemory,
    leases: MountLeases,
    view: MountView,
    contents: MountContents,
    workingSets: MountWorkingSets,
    stop: ServeStop,
    warn: @escaping @Sendable (String) -> Void
  ) {
    self.device = device
    self.memory = memory
    self.leases = leases
    self.view = view
    self.contents = contents
    self.workingSets = workingSets
    self.stop = stop
    self.warn = warn
    openSnapshots = Mutex(memory.openSnapshots)
  }

  var counts: MountCounts {
    var counts = counter.counts
    counts.decodedChunkCount = contents.decodedChunkCount
    contents.addBrought(to: &counts)
    return counts
  }

  /// Starts all threads. When the mount is gone they end, and ask `stop`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  func start() throws(VMCheckpointError) -> [WorkerThreads] {
    let errands = try WorkerThreads(count: 1) { [self] in runErrands() }
    let plays = try WorkerThreads(count: 1) { [self] in runPlays() }
    liveThreadCount.store(Self.threadCount, ordering: .releasing)
    let threads = try WorkerThreads(count: Self.threadCount) { [self] in
      answerRequests()
      if liveThreadCount.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 {
        stop.request()
      }
    }
    return [threads, errands, plays]
  }

  /// Lets the threads for errands and working sets end when there is nothing left for them.
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
    // The kernel copies a request to memory that is there even for a process that is being killed, and hands it out
    // again. For memory that it would first have to get, such a process gets none, and whoever asked gets EIO
    // (fuse_dev_do_read, Linux 6.18).
    request.initializeMemory(as: UInt8.self, repeating: 0)
    let start = Page.byteCount - FUSEReply.headerByteCount
    let reply = UnsafeMutableRawBufferPointer(rebasing: answer[start...])
    while true {
      let count = Glibc.read(device, request.baseAddress, request.count)
      guard count > 0 else {
        // A request that was withdrawn meanwhile is ENOENT; without the mount it is ENODEV.
        if count < 0, [EINTR, EAGAIN, ENOENT].contains(errno) { continue }
        // Other threads may wait for a remote, and nobody for them.
        contents.endBringing()
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

  enum Answer {
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
  func send(
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

  static func errorNumber(_ error: VMCheckpointError) -> Int32 {
    switch error.code {
    case .notFound: ENOENT
    case .permissionDenied: EACCES
    case .locked: EBUSY
    case .outOfResources: ENOMEM
    default: EIO
    }
  }

  func warnOnce(_ message: String) {
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
    case .writeBack(let offset, let byteCount):
      add(.forget(node: request.node, offset: offset, byteCount: byteCount))
      return .error(EROFS)
    case .unknown: return .error(ENOSYS)
    case .initialize(let major, let minor, let maximumReadahead, let flags):
      return initialize(major, minor, maximumReadahead, flags, &reply)
    case .statistics:
      // Without blocks: df leaves the mount out.
      reply.appendStatistics(blockCount: 0, fileCount: UInt64(view.snapshotCount))
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
      guard let attributes = try view.lookUp(name, in: node) else { return .error(ENOENT) }
      reply.appendEntry(attributes, view.owner)
    case .attributes:
      guard let attributes = try view.attributes(of: node) else { return .error(ENOENT) }
      reply.appendAttributes(attributes, view.owner)
    case .readLink:
      guard let target = view.target(ofLink: node) else { return .error(EINVAL) }
      reply.append(target.utf8)
    case .openDirectory:
      reply.appendOpen(handle: 0, flags: 0)
    case .readDirectory(let offset, let byteCount, let withAttributes):
      let limit = min(byteCount, Self.readCapacity)
      guard let entries = try view.entries(of: node, after: offset, limit: limit) else {
        return .error(ENOENT)
      }
      view.append(entries, from: offset, limit: limit, withAttributes, to: &reply)
    case .open(let forWriting): return try open(request, node, forWriting, &reply)
    case .release(let handle):
      guard handle != 0 else { return .bytes(0) }
      add(.release(request, handle: handle))
      return .none
    case .read(let handle, let offset, let byteCount):
      readingCount.add(1, ordering: .relaxed)
      defer { readingCount.subtract(1, ordering: .relaxed) }
      return try read(node, handle, offset, byteCount, body)
    case .seek(let offset, let whence): return try seek(node, offset, whence, &reply)
    default: return .error(ENOSYS)
    }
    return .bytes(reply.byteCount)
  }

  // MARK: Files

  private func open(
    _ request: FUSERequest,
    _ node: MountNode,
    _ isForWriting: Bool,
    _ reply: inout FUSEReply
  ) throws(VMCheckpointError) -> Answer {
    guard let (file, files) = try view.file(node) else { return .error(ENOENT) }
    if case .ram(let ram) = file.contents {
      if files.absentPageCount > 0 {
        warnOnce(
          "\(files.absentPageCount) pages of snapshot \(quotedName(files.snapshot.name)) are absent, "
            + "because the dump that it was saved from left them out; they are read as zeros"
        )
      }
      let opened = OpenedRAM(file: file, ram: ram, isForWriting: isForWriting)
      add(.open(request, files.snapshot, opened))
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
    _ handle: UInt64,
    _ offset: UInt64,
    _ byteCount: Int,
    _ body: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> Answer {
    guard let (file, files) = try view.file(node) else { return .error(EIO) }
    guard byteCount <= Self.readCapacity else { return .error(EINVAL) }
    let bytes: [UInt8]
    switch file.contents {
    case .ram(let ram):
      return try readRAM(ram, file, files.snapshot, node, handle, offset, byteCount, body)
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
    _ handle: UInt64,
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
          touch: { workingSets.touch($0, by: handle) }
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
    guard let (file, files) = try view.file(node) else { return .error(ENOENT) }
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

  func isOpen(_ snapshot: Int64) -> Bool {
    openSnapshots.withLock { $0.contains(snapshot) }
  }
}
