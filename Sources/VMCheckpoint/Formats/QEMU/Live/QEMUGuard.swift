import CLinux
import Foundation
import Glibc

/// A process that lets a VM go on when the process that saves it is killed.
///
/// It shares the connection to QEMU's monitor, which serves one client at a time, and a pipe whose
/// other end only the saving process has. A byte on the pipe says that all is well; its end without
/// one, that the saving process is gone.
public enum QEMUGuard {
  /// Where a guard finds the connection and the pipe.
  fileprivate static let monitorDescriptor: Int32 = 3
  fileprivate static let pipeDescriptor: Int32 = 4

  /// Does a guard's work in a process that was started for it, and returns when there is no more.
  ///
  /// - Parameter plan: The last argument that the process was started with.
  public static func run(plan: String) {
    // It is asked to end by the pipe only: whoever ends a group of processes means the saving one.
    for number in [SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT] { signal(number, SIG_IGN) }
    guard let undo = try? JSONDecoder().decode(QEMUUndo.self, from: Data(plan.utf8)) else { return }
    var byte: UInt8 = 0
    while true {
      let count = read(pipeDescriptor, &byte, 1)
      if count == 1 { return }
      if count == 0 || errno != EINTR { break }
    }
    let client = QMPClient(descriptor: monitorDescriptor)
    // QEMU may be busy with what it was asked for last.
    for _ in 0..<5 {
      if (try? undo.perform(client, resumes: true)) != nil || client.isBroken { return }
      sleep(1)
    }
  }
}

/// The saving process's side of a ``QEMUGuard``.
final class QEMUGuardProcess {
  private static let patienceSeconds = 10.0

  private var pipe: Int32
  private let process: pid_t

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
    let plan = (try? encoder.encode(undo)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    var ends: [Int32] = [-1, -1]
    guard clinux_pipe(&ends) == 0 else { throw Self.failure(errno) }
    defer { close(ends[0]) }
    pipe = ends[1]
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // Both numbers may be in use here: over others first, then to where they belong.
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
    let (highMonitor, highPipe) = (
      fcntl(monitor, F_DUPFD_CLOEXEC, 10), fcntl(ends[0], F_DUPFD_CLOEXEC, 10)
    )
    defer {
      close(highMonitor)
      close(highPipe)
    }
    posix_spawn_file_actions_adddup2(&actions, highMonitor, QEMUGuard.monitorDescriptor)
    posix_spawn_file_actions_adddup2(&actions, highPipe, QEMUGuard.pipeDescriptor)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    posix_spawnattr_setflags(&attributes, Int16(clinux_posix_spawn_setsid))
    let arguments = (command + [plan]).map { strdup($0) } + [nil]
    defer { arguments.forEach { free($0) } }
    var pid = pid_t()
    let result = posix_spawn(&pid, command[0], &actions, &attributes, arguments, environ)
    guard result == 0 else {
      close(ends[1])
      throw Self.failure(result)
    }
    process = pid
  }

  deinit { leave() }

  /// Says that all is well, and waits for the guard to end.
  func dismiss() {
    guard pipe >= 0 else { return }
    var byte: UInt8 = 1
    _ = write(pipe, &byte, 1)
    leave()
  }

  /// Lets the guard do its work, and waits until it has. It goes on alone when that takes long, as
  /// with a QEMU that does not answer.
  func leave() {
    guard pipe >= 0 else { return }
    close(pipe)
    pipe = -1
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
      "cannot start the process that guards the VM: \(String(cString: strerror(code)))"
    )
  }
}
