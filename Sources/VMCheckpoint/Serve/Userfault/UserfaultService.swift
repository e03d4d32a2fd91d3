import CLinux
import Glibc
import Synchronization

/// Waits for VMs on a socket, and serves each in a thread of its own.
///
/// What a keeper must have to go on is given to it before it is used: a connection before its message is read,
/// the marks of a VM's pages before the first page.
final class UserfaultService {
  private static let maximumVMCount = 256
  private static let maximumWaitingCount = 64
  private static let maximumUnusableCount = 64
  /// VMMs send their message at once.
  private static let handshakeSeconds = 10.0
  private static let pollMilliseconds: Int32 = 500

  /// A connection whose message has not come yet.
  private struct Waiting {
    var id: UInt64
    var connection: Int32
    var servedPages: Int32?
    var deadlineSeconds: Double
  }

  /// Sessions that have ended, for the loop.
  private final class Finished: Sendable {
    let endings = Mutex<[(id: UInt64, ending: UserfaultSession.Ending)]>([])
    let wake: (reader: Int32, writer: Int32)

    init() throws(VMCheckpointError) {
      var ends: [Int32] = [-1, -1]
      guard clinux_pipe(&ends) == 0 else {
        let code = errno
        throw VMCheckpointError(
          .inputOutput,
          "cannot make a pipe: \(String(cString: strerror(code)))"
        )
        .orOutOfResources(errorNumber: code)
      }
      wake = (ends[0], ends[1])
    }

    deinit {
      close(wake.reader)
      close(wake.writer)
    }

    func add(_ id: UInt64, _ ending: UserfaultSession.Ending) {
      endings.withLock { $0.append((id, ending)) }
      var byte: UInt8 = 1
      _ = write(wake.writer, &byte, 1)
    }

    func takeAll() -> [(id: UInt64, ending: UserfaultSession.Ending)] {
      endings.withLock { list in
        defer { list.removeAll() }
        return list
      }
    }
  }

  private let request: ServeRequest
  private let server: PageServer
  private let workingSets: WorkingSetUse
  private let control: OperationControl
  private let keeper: KeeperLink
  private let listener: Int32
  private let stop: ServeStop
  private let finished: Finished
  private var sessions: [UInt64: (session: UserfaultSession, thread: WorkerThreads)] = [:]
  private var waiting: [Waiting] = []
  private var unusable: [(connection: Int32, userfaultfd: Int32)] = []
  private var lastID: UInt64 = 0
  private var hasWarnedOfMany = false
  private var isSuccessor = false
  private(set) var vmCount: UInt64 = 0
  private(set) var completeVMCount: UInt64 = 0

  init(
    _ request: ServeRequest,
    server: PageServer,
    workingSets: WorkingSetUse,
    listener: Int32,
    keeper: KeeperLink,
    control: OperationControl
  ) throws(VMCheckpointError) {
    self.request = request
    self.server = server
    self.workingSets = workingSets
    self.listener = listener
    self.keeper = keeper
    self.control = control
    stop = try ServeStop()
    finished = try Finished()
  }

  /// Whether a VM is served whose pages are not all in place.
  var hasVMs: Bool { !sessions.isEmpty }

  /// Goes on with the VMs of a server that is gone.
  ///
  /// A connection that was accepted need not have been a VM's. When none was, this server ends too: nobody has asked
  /// for it.
  func takeOver(_ vms: [KeeperLink.VM]) {
    isSuccessor = true
    let now = MonotonicClock.nowSeconds
    for vm in vms {
      lastID = max(lastID, vm.id)
      waiting.append(
        Waiting(
          id: vm.id,
          connection: vm.connection,
          servedPages: vm.servedPages,
          deadlineSeconds: vm.servedPages == nil ? now + Self.handshakeSeconds : .infinity
        )
      )
    }
    readHandshakes()
  }

  /// Serves until the control is cancelled or, where that was asked for, the first VM has ended. VMs have all of
  /// their pages then.
  func run() {
    while true {
      noteFinished()
      workingSets.storeIfOver()
      if control.cancellation.isCancelled || request.endsWithFirstVM && vmCount > 0 && !hasVMs {
        break
      }
      keeper.check()
      expireWaiting()
      if isSuccessor, vmCount == 0, waiting.isEmpty, unusable.isEmpty, !hasBacklog { break }
      var requests = [
        pollfd(fd: finished.wake.reader, events: Int16(POLLIN), revents: 0),
        pollfd(fd: keeper.descriptor, events: Int16(POLLIN), revents: 0),
        pollfd(fd: hasRoom ? listener : -1, events: Int16(POLLIN), revents: 0),
      ]
      requests += waiting.map { pollfd(fd: $0.connection, events: Int16(POLLIN), revents: 0) }
      guard poll(&requests, nfds_t(requests.count), Self.pollMilliseconds) > 0 else {
        warnIfFull()
        continue
      }
      if requests[0].revents != 0 { drainWake() }
      if requests[2].revents != 0 { accept() }
      warnIfFull()
      readHandshakes()
    }
    finish()
  }

  /// Whether somebody has connected and was not accepted yet.
  private var hasBacklog: Bool {
    var request = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
    return poll(&request, 1, 0) > 0
  }

  private var hasRoom: Bool {
    sessions.count < Self.maximumVMCount && waiting.count < Self.maximumWaitingCount
  }

  /// A VM that nobody accepts would wait without a word.
  private func warnIfFull() {
    guard sessions.count >= Self.maximumVMCount else {
      hasWarnedOfMany = false
      return
    }
    guard !hasWarnedOfMany, hasBacklog else { return }
    hasWarnedOfMany = true
    warn(
      "\(sessions.count) VMs are served, which is the most; the next one waits until one of them ends"
    )
  }

  private func finish() {
    for each in waiting { drop(each.id, [each.connection]) }
    waiting = []
    stop.request()
    for (_, each) in sessions { each.thread.join() }
    for (id, ending) in finished.takeAll() {
      if ending == .complete { completeVMCount += 1 }
      guard let session = sessions.removeValue(forKey: id)?.session else { continue }
      session.close()
      keeper.send(KeeperMessage(.ended, number: id))
    }
    for each in unusable {
      close(each.userfaultfd)
      close(each.connection)
    }
  }

  private func drainWake() {
    var bytes = [UInt8](repeating: 0, count: 64)
    _ = read(finished.wake.reader, &bytes, bytes.count)
  }

  private func noteFinished() {
    for (id, ending) in finished.takeAll() {
      guard let (session, thread) = sessions.removeValue(forKey: id) else { continue }
      thread.join()
      if session.recordsWorkingSet { workingSets.storeIfOver(isEnding: true) }
      if ending == .complete { completeVMCount += 1 }
      session.close()
      keeper.send(KeeperMessage(.ended, number: id))
    }
  }

  private func accept() {
    let connection = Glibc.accept(listener, nil, nil)
    guard connection >= 0 else { return }
    _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
    lastID += 1
    keeper.send(KeeperMessage(.connection, number: lastID), connection)
    waiting.append(
      Waiting(
        id: lastID,
        connection: connection,
        servedPages: nil,
        deadlineSeconds: MonotonicClock.nowSeconds + Self.handshakeSeconds
      )
    )
  }

  private func expireWaiting() {
    let now = MonotonicClock.nowSeconds
    for each in waiting where each.deadlineSeconds < now {
      warn("a program connected and sent nothing for \(Int(Self.handshakeSeconds)) seconds")
      drop(each.id, [each.connection])
    }
    waiting.removeAll { $0.deadlineSeconds < now }
  }

  private func drop(_ id: UInt64, _ descriptors: [Int32]) {
    for descriptor in descriptors { close(descriptor) }
    keeper.send(KeeperMessage(.ended, number: id))
  }

  private func warn(_ message: String) { control.onWarning?(message) }

  private func readHandshakes() {
    var rest: [Waiting] = []
    for each in waiting {
      let process = clinux_peer_pid(each.connection)
      switch UserfaultPeer.message(on: each.connection) {
      case .nothing: rest.append(each)
      case .refused(let reason):
        warn("process \(process) connected and is not served: \(reason)")
        drop(each.id, [each.connection] + (each.servedPages.map { [$0] } ?? []))
      case .unusable(let error, let userfaultfd):
        warn("process \(process) is not served: \(error.message)")
        hold(each.connection, userfaultfd)
      case .handshake(let handshake, let userfaultfd):
        do throws(VMCheckpointError) {
          try begin(each, handshake, userfaultfd, process)
        } catch {
          warn("process \(process) is not served: \(error.message)")
          hold(each.connection, userfaultfd)
        }
      }
    }
    waiting = rest
  }

  /// Keeps a userfaultfd open that is not served: a VM that has no other descriptor of it would read zeros.
  private func hold(_ connection: Int32, _ userfaultfd: Int32) {
    if unusable.count >= Self.maximumUnusableCount {
      let oldest = unusable.removeFirst()
      close(oldest.userfaultfd)
      close(oldest.connection)
    }
    unusable.append((connection, userfaultfd))
  }

  private func begin(
    _ waiting: Waiting,
    _ handshake: UserfaultHandshake,
    _ userfaultfd: Int32,
    _ process: pid_t
  ) throws(VMCheckpointError) {
    let (control, finished, id) = (control, finished, waiting.id)
    let session = try UserfaultSession(
      UserfaultSession.VM(
        id: id,
        connection: waiting.connection,
        userfaultfd: userfaultfd,
        process: process,
        map: GuestAddressMap(handshake, server.reader.layout),
        servedPages: waiting.servedPages
      ),
      server: server,
      workingSets: workingSets,
      prefetches: request.prefetches,
      stop: stop,
      warn: { control.onWarning?($0) }
    )
    if waiting.servedPages == nil {
      keeper.send(KeeperMessage(.servedPages, number: id), session.servedPagesDescriptor)
    }
    let thread = try WorkerThreads(count: 1) { finished.add(id, session.run()) }
    sessions[id] = (session, thread)
    vmCount += 1
  }
}
