import CLinux
import Foundation
import Glibc
import SystemPackage
import VMCheckpoint

/// A process that lets a VM go on when the process that saves it is killed.
///
/// It shares the connection to QEMU's monitor, which serves one client at a time, and a pipe whose
/// other end only the saving process has. A byte on the pipe says that all is well; its end without
/// one, that the saving process is gone.
///
/// A saving process that is stopped, by Ctrl-Z for example, would leave its VM stopped as well. So the
/// guard acts too when its parent has been stopped for two seconds. It closes its end of the pipe
/// before it acts: a snapshot for which RAM was read in place is complete only if that end was open
/// after all of RAM was read (``QEMUGuardProcess/requireIdle()``).
///
/// QEMU may be sending the VM's state just then. Once the pipe is full it waits for the process that is stopped, with
/// the lock of its main loop held, so that it obeys nobody; and a guest that is saved by a background snapshot waits
/// for it at its next write. So the guard reads what QEMU sends, and throws it away.
public enum QEMUGuard {
  /// Where a guard finds the connection and the pipe.
  fileprivate static let monitorDescriptor: Int32 = 3
  fileprivate static let pipeDescriptor: Int32 = 4

  /// How often the guard looks at its parent.
  private static let pollMilliseconds: Int32 = 200
  /// Two seconds of looks that all find the parent stopped.
  private static let stoppedLookCount = 10

  /// Does a guard's work in a process that was started for it, and returns when there is no more.
  ///
  /// - Parameter plan: The last argument that the process was started with.
  public static func run(plan: String) {
    // Only the pipe asks the guard to end. A user who ends a group of processes means the saving one.
    for number in [SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT] { signal(number, SIG_IGN) }
    guard let undo = try? JSONDecoder().decode(QEMUUndo.self, from: Data(plan.utf8)) else { return }
    guard awaitCause(watchesParent: undo.wasRunning) else { return }
    close(pipeDescriptor)
    drain(undo.stream, of: getppid())
    let client = QMPClient(descriptor: monitorDescriptor)
    // QEMU may be busy with what it was asked for last.
    for _ in 0..<5 {
      if (try? undo.perform(client, resumes: true)) != nil || client.isBroken { return }
      sleep(1)
    }
  }

  /// Reads a stream to its end, on a thread of its own, in place of a process that is stopped. A process that has
  /// ended has none: then QEMU's next write fails.
  private static func drain(_ stream: QEMUStreamPipe.Place, of process: pid_t) {
    guard isStopped(process) else { return }
    // Without a writer this would wait for one.
    let path = "/proc/\(process)/fd/\(stream.descriptor)"
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { return }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFIFO,
      UInt64(status.st_ino) == stream.inode, fcntl(descriptor, F_SETFL, 0) == 0
    else {
      close(descriptor)
      return
    }
    _ = try? WorkerThreads(count: 1) {
      var block = [UInt8](repeating: 0, count: 64 << 10)
      while true {
        let count = read(descriptor, &block, block.count)
        if count == 0 || (count < 0 && errno != EINTR) { return }
      }
    }
  }

  /// Waits until there is something to do for the guard.
  ///
  /// - Parameter watchesParent: Whether a stopped parent is a reason to act.
  /// - Returns: `false` when the saving process has said that all is well.
  private static func awaitCause(watchesParent: Bool) -> Bool {
    var stoppedLooks = 0
    while true {
      var request = pollfd(fd: pipeDescriptor, events: Int16(POLLIN), revents: 0)
      if poll(&request, 1, pollMilliseconds) > 0 {
        var byte: UInt8 = 0
        let count = read(pipeDescriptor, &byte, 1)
        if count == 1 { return false }
        if count == 0 || errno != EINTR { return true }
      }
      stoppedLooks = watchesParent && isStopped(getppid()) ? stoppedLooks + 1 : 0
      if stoppedLooks >= stoppedLookCount { return true }
    }
  }

  /// Whether a process is stopped, by a signal or by a debugger. `false` where `/proc` is missing.
  ///
  /// `/proc/PID/stat` is "PID (NAME) STATE …", and NAME may hold parentheses and spaces.
  private static func isStopped(_ process: pid_t) -> Bool {
    let descriptor = open("/proc/\(process)/stat", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var text = [UInt8](repeating: 0, count: 512)
    let count = read(descriptor, &text, text.count)
    guard count > 0, let end = text[..<count].lastIndex(of: UInt8(ascii: ")")), end + 2 < count
    else { return false }
    return text[end + 2] == UInt8(ascii: "T") || text[end + 2] == UInt8(ascii: "t")
  }
}

/// The saving process's side of a ``QEMUGuard``.
final class QEMUGuardProcess {
  private static let patienceSeconds = 10.0

  private var pipe: Int32
  private let process: pid_t
  /// What `waitpid` said of the guard, once it has ended.
  private var endStatus: Int32?

  /// Starts `command` with the plan as its last argument.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `unavailable`.
  init(
    command: [String],
    undo: QEMUUndo,
    monitor: Int32
  ) throws(VMCheckpointError) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    // A guard without a plan would end at once.
    guard let plan = try? encoder.encode(undo) else { throw Self.failure(EINVAL) }
    var ends: [Int32] = [-1, -1]
    guard clinux_pipe(&ends) == 0 else { throw Self.failure(errno) }
    defer { close(ends[0]) }
    do throws(VMCheckpointError) {
      process = try Self.start(
        command + [String(decoding: plan, as: UTF8.self)],
        monitor: monitor,
        pipe: ends[0]
      )
    } catch {
      close(ends[1])
      throw error
    }
    pipe = ends[1]
  }

  /// Starts the guard with `monitor` and `pipe` where it looks for them, in a session of its own.
  private static func start(
    _ command: [String],
    monitor: Int32,
    pipe: Int32
  ) throws(VMCheckpointError) -> pid_t {
    // Each of these fails without descriptors or memory, and the VM must not be stopped unguarded.
    func check(_ result: Int32) throws(VMCheckpointError) {
      guard result == 0 else { throw failure(result) }
    }
    // Both numbers may be in use here: over others first, then to where they belong.
    let highMonitor = fcntl(monitor, F_DUPFD_CLOEXEC, 10)
    guard highMonitor >= 0 else { throw failure(errno) }
    defer { close(highMonitor) }
    let highPipe = fcntl(pipe, F_DUPFD_CLOEXEC, 10)
    guard highPipe >= 0 else { throw failure(errno) }
    defer { close(highPipe) }
    var actions = posix_spawn_file_actions_t()
    try check(posix_spawn_file_actions_init(&actions))
    defer { posix_spawn_file_actions_destroy(&actions) }
    try check(posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0))
    try check(posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0))
    try check(posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0))
    try check(
      posix_spawn_file_actions_adddup2(&actions, highMonitor, QEMUGuard.monitorDescriptor)
    )
    try check(posix_spawn_file_actions_adddup2(&actions, highPipe, QEMUGuard.pipeDescriptor))
    var attributes = posix_spawnattr_t()
    try check(posix_spawnattr_init(&attributes))
    defer { posix_spawnattr_destroy(&attributes) }
    try check(posix_spawnattr_setflags(&attributes, Int16(clinux_posix_spawn_setsid)))
    let arguments = command.map { strdup($0) } + [nil]
    defer { arguments.forEach { free($0) } }
    guard !arguments.dropLast().contains(nil) else { throw failure(ENOMEM) }
    var pid = pid_t()
    try check(posix_spawn(&pid, command[0], &actions, &attributes, arguments, environ))
    return pid
  }

  /// Whether the guard has let the VM go on, or is about to: its end of the pipe is closed. A guard
  /// that a signal has ended did not act.
  var hasActed: Bool {
    guard pipe >= 0 else { return false }
    var request = pollfd(fd: pipe, events: 0, revents: 0)
    guard poll(&request, 1, 0) > 0, request.revents & Int16(POLLERR) != 0 else { return false }
    // Closing the pipe is the first that a guard does, and ending the last.
    if endStatus == nil {
      var status: Int32 = 0
      if waitpid(process, &status, WNOHANG) == process { endStatus = status }
    }
    return endStatus.map { $0 & 0x7f == 0 } ?? true
  }

  /// - Throws: ``VMCheckpointError`` with the code `unavailable` when the guard has acted: the guest
  ///   ran on, and RAM that is read in place may be of different moments.
  func requireIdle() throws(VMCheckpointError) {
    guard hasActed else { return }
    throw VMCheckpointError(
      .unavailable,
      "the save was stopped while the VM was paused, and the VM was let go on",
      hint: "save again, and do not stop it with Ctrl-Z"
    )
  }

  deinit { leave() }

  /// Says that all is well, and waits for the guard to end.
  func dismiss() {
    guard pipe >= 0 else { return }
    var byte: UInt8 = 1
    // A guard that was killed reads nothing any more.
    BrokenPipe.withoutSignal { _ = write(pipe, &byte, 1) }
    leave()
  }

  /// Lets the guard do its work, and waits until it has. It goes on alone when that takes long, as
  /// with a QEMU that does not answer.
  func leave() {
    guard pipe >= 0 else { return }
    close(pipe)
    pipe = -1
    guard endStatus == nil else { return }
    let deadline = MonotonicClock.nowSeconds + Self.patienceSeconds
    var status: Int32 = 0
    while MonotonicClock.nowSeconds < deadline {
      let result = waitpid(process, &status, WNOHANG)
      if result == process || (result < 0 && errno != EINTR) { return }
      usleep(2000)
    }
  }

  private static func failure(_ code: Int32) -> VMCheckpointError {
    VMCheckpointError(
      .unavailable,
      "cannot start the process that guards the VM: \(Errno(rawValue: code))"
    ).orOutOfResources(Errno(rawValue: code))
  }
}
