import CLinux
import Glibc
import SystemPackage

/// Wakes a thread that waits in `poll`: its descriptor can be read once somebody has rung.
///
/// Thread-safe. Rings that nobody has answered yet count as one.
package final class Doorbell: Sendable {
  /// What to poll.
  package let descriptor: Int32
  private let writer: Int32

  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  package init() throws(VMCheckpointError) {
    var ends: [Int32] = [-1, -1]
    guard clinux_pipe(&ends) == 0 else {
      let code = Errno(rawValue: errno)
      throw VMCheckpointError(.inputOutput, "cannot make a pipe: \(code)").orOutOfResources(code)
    }
    for end in ends { _ = fcntl(end, F_SETFL, O_NONBLOCK) }
    (descriptor, writer) = (ends[0], ends[1])
  }

  deinit {
    close(descriptor)
    close(writer)
  }

  /// Wakes who waits. A pipe that is full has woken them already.
  package func ring() {
    var byte: UInt8 = 1
    _ = write(writer, &byte, 1)
  }

  /// Lets the next wait be one.
  package func answer() {
    var bytes = [UInt8](repeating: 0, count: 256)
    while read(descriptor, &bytes, bytes.count) == bytes.count {}
  }
}
