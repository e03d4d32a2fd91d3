import CLinux
import Glibc
import SystemPackage
import VMCheckpoint

/// A program that runs beside this process, and what it prints.
///
/// It is killed when this value goes away before the program has ended.
final class RunningProgram {
  /// More output than this is read and dropped.
  private static let maximumByteCount = 16 << 20

  private let process: pid_t
  /// The pipes from standard output and standard error; -1: closed.
  private var descriptors: [Int32]
  private var texts: [[UInt8]] = [[], []]
  /// What `waitpid` reported; `nil` while the program runs.
  private var status: Int32?
  /// Whether ``kill()`` has ended the program.
  private(set) var wasKilled = false

  /// Starts `command`, with nothing as standard input, and messages in English.
  ///
  /// - Parameters:
  ///   - command: The program, which PATH finds, and its arguments.
  ///   - package: Debian's package of it.
  /// - Throws: ``VMCheckpointError``: `unavailable` when there is no such program, `outOfResources`.
  init(_ command: [String], package: String) throws(VMCheckpointError) {
    let output = try Self.makePipe()
    defer { close(output.write) }
    let error: (read: Int32, write: Int32)
    do throws(VMCheckpointError) { error = try Self.makePipe() } catch {
      close(output.read)
      throw error
    }
    defer { close(error.write) }
    descriptors = [output.read, error.read]
    do throws(VMCheckpointError) {
      process = try ChildProgram.start(
        command,
        package: package,
        streams: .init(output: output.write, error: error.write),
        hasOwnSession: true,
        environment: ["LC_ALL=C", "LANGUAGE=C"]
      )
    } catch {
      for descriptor in descriptors { close(descriptor) }
      throw error
    }
    for descriptor in descriptors { _ = fcntl(descriptor, F_SETFL, O_NONBLOCK) }
  }

  deinit { kill() }

  private static func makePipe() throws(VMCheckpointError) -> (read: Int32, write: Int32) {
    var ends: [Int32] = [-1, -1]
    guard clinux_pipe(&ends) == 0 else {
      throw VMCheckpointError(.outOfResources, "cannot make a pipe: \(Errno(rawValue: errno))")
    }
    return (ends[0], ends[1])
  }

  /// What the program has printed.
  var output: String { String(decoding: texts[0], as: UTF8.self) }

  /// What the program has printed as messages.
  var messages: String { String(decoding: texts[1], as: UTF8.self) }

  /// Whether the program has ended with exit code 0.
  var succeeded: Bool { status == 0 }

  /// Takes what the program prints, for as long as it runs and up to `milliseconds`.
  ///
  /// - Returns: Whether the program has ended.
  func hasEnded(within milliseconds: Int32) -> Bool {
    let deadline = MonotonicClock.nowSeconds + Double(milliseconds) / 1000
    while status == nil {
      var requests = descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
      // Without an open pipe this only waits; the program may end without closing its pipes.
      _ = poll(&requests, nfds_t(requests.count), min(milliseconds, 10))
      let ended = waitForEnd(WNOHANG)
      for index in descriptors.indices { drain(index) }
      if ended { break }
      guard MonotonicClock.nowSeconds < deadline else { return false }
    }
    closeAll()
    return true
  }

  /// Ends the program, if it runs.
  func kill() {
    if status == nil {
      wasKilled = true
      Glibc.kill(process, SIGKILL)
      _ = waitForEnd(0)
    }
    closeAll()
  }

  private func waitForEnd(_ options: Int32) -> Bool {
    var value: Int32 = 0
    var result = waitpid(process, &value, options)
    while result < 0, errno == EINTR { result = waitpid(process, &value, options) }
    guard result != 0 else { return false }
    // Nobody else waits for the program. Should the kernel not know it, nothing is known of its end.
    status = result == process ? value : -1
    return true
  }

  private func drain(_ index: Int) {
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    while descriptors[index] >= 0 {
      let count = read(descriptors[index], &buffer, buffer.count)
      if count > 0 {
        let room = Self.maximumByteCount - texts[index].count
        texts[index].append(contentsOf: buffer[..<min(count, room)])
      } else if count == 0 || (errno != EINTR && errno != EAGAIN) {
        close(descriptors[index])
        descriptors[index] = -1
      } else if errno == EAGAIN {
        return
      }
    }
  }

  private func closeAll() {
    for index in descriptors.indices where descriptors[index] >= 0 {
      close(descriptors[index])
      descriptors[index] = -1
    }
  }
}
