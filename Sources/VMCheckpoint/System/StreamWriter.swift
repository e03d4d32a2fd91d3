import CLinux
import Glibc
import SystemPackage

/// A pipe, socket or file that is written in order, and that nobody may read from for long: waiting
/// for its reader ends when the operation is cancelled.
package final class StreamWriter {
  /// How long to wait for room before looking whether to stop.
  private static let pollMilliseconds: Int32 = 50

  /// What Linux's pipes take without waiting once `poll` says that there is room.
  private static let roomByteCount = 4096

  private let descriptor: Int32
  /// A second opening of the same pipe that never waits. The caller's own must not be made so: a
  /// process that shares it would find it changed.
  private let ownDescriptor: Int32?
  private let cancellation: CancellationFlag

  /// The descriptor stays the caller's.
  package init(fileDescriptor: Int32, cancellation: CancellationFlag) {
    self.cancellation = cancellation
    ownDescriptor = Self.reopenedPipe(fileDescriptor)
    descriptor = ownDescriptor ?? fileDescriptor
    clinux_widen_pipe(descriptor)
  }

  deinit {
    if let ownDescriptor { close(ownDescriptor) }
  }

  private static func reopenedPipe(_ fileDescriptor: Int32) -> Int32? {
    var status = stat()
    guard fstat(fileDescriptor, &status) == 0, status.st_mode & S_IFMT == S_IFIFO else {
      return nil
    }
    // Not possible without /proc, or for another user's pipe.
    let opened = open("/proc/self/fd/\(fileDescriptor)", O_WRONLY | O_NONBLOCK | O_CLOEXEC)
    return opened < 0 ? nil : opened
  }

  /// Writes all of `bytes`.
  ///
  /// - Throws: ``VMCheckpointError``: `cancelled` soon after that was asked for, also while
  ///   nobody reads; else `inputOutput`.
  package func write(_ bytes: UnsafeRawBufferPointer) throws(VMCheckpointError) {
    try BrokenPipe.withoutSignal { () throws(VMCheckpointError) in try writeAll(bytes) }
  }

  private func writeAll(_ bytes: UnsafeRawBufferPointer) throws(VMCheckpointError) {
    var done = 0
    while done < bytes.count {
      try cancellation.check()
      var request = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
      // A signal interrupts `poll`, too; without its word a write could wait for ever.
      guard poll(&request, 1, Self.pollMilliseconds) > 0 else { continue }
      let rest = bytes.count - done
      let result = Glibc.write(
        descriptor,
        bytes.baseAddress! + done,
        ownDescriptor == nil ? min(rest, Self.roomByteCount) : rest
      )
      if result > 0 {
        done += result
      } else if result == 0 || errno != EINTR && errno != EAGAIN {
        // Nothing written and no reason: `errno` is an older call's.
        let code = result == 0 ? .ioError : Errno(rawValue: errno)
        throw VMCheckpointError(
          .inputOutput,
          "cannot write RAM to the stream: \(code)"
        )
      }
    }
  }
}
