import CLinux
import Glibc
import SystemPackage

/// A pipe, socket or file that is read in order, and into which nobody may write for long: waiting
/// for input ends when the operation is cancelled.
package struct StreamReader: Sendable {
  /// How long to wait for input before looking whether to stop.
  private static let pollMilliseconds: Int32 = 50

  /// Stays the caller's.
  package let descriptor: Int32
  /// For messages.
  package let name: String
  package let cancellation: CancellationFlag

  /// Lets a pipe hold more, so that the process that writes to it waits less often.
  package init(descriptor: Int32, name: String, cancellation: CancellationFlag) {
    self.descriptor = descriptor
    self.name = name
    self.cancellation = cancellation
    clinux_widen_pipe(descriptor)
  }

  /// One read, waiting for input.
  ///
  /// - Returns: The bytes read; 0 at the end.
  /// - Throws: ``VMCheckpointError``: `cancelled` soon after that was asked for; else `inputOutput`.
  package func read(into buffer: UnsafeMutableRawBufferPointer) throws(VMCheckpointError) -> Int {
    while true {
      try cancellation.check()
      var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      let ready = poll(&request, 1, Self.pollMilliseconds)
      if ready == 0 || (ready < 0 && errno == EINTR) { continue }
      let count = Glibc.read(descriptor, buffer.baseAddress!, buffer.count)
      if count >= 0 { return count }
      guard errno == EINTR || errno == EAGAIN else {
        throw VMCheckpointError(
          .inputOutput,
          "cannot read \(name): \(Errno(rawValue: errno))"
        )
      }
    }
  }
}
