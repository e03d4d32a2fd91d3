import Glibc

/// Writing to standard output or standard error failed.
struct OutputFailure: Error, Hashable {
  var errorNumber: Int32

  /// The reader went away (`vmckpt list | head -1`): it knows, so nothing is said about it.
  var isBrokenPipe: Bool { errorNumber == EPIPE }
}

/// A file descriptor that text is written to.
struct OutputDescriptor: Sendable {
  var descriptor: Int32

  /// Writes all of `text`.
  ///
  /// Waits for room even if the descriptor is non-blocking: a process that shares it may have made
  /// it so.
  ///
  /// - Throws: ``OutputFailure``. A call that a signal interrupted is repeated.
  func write(_ text: String) throws(OutputFailure) {
    var text = text
    let failure: Int32? = text.withUTF8 { bytes in
      var rest = UnsafeRawBufferPointer(bytes)
      while !rest.isEmpty {
        let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
        if count < 0 {
          if errno == EINTR { continue }
          guard errno == EAGAIN else { return errno }
          awaitReady(descriptor, POLLOUT)
          continue
        }
        // Nothing written and no reason: it would be so for ever.
        if count == 0 { return EIO }
        rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
      }
      return nil
    }
    if let failure { throw OutputFailure(errorNumber: failure) }
  }
}

/// Waits until a file descriptor can be read (`POLLIN`) or written (`POLLOUT`), or has an error that the
/// next call reports. May return early.
func awaitReady(_ descriptor: Int32, _ events: Int32) {
  var request = pollfd(fd: descriptor, events: Int16(events), revents: 0)
  // Not for ever: a descriptor that `poll` knows nothing about is tried again.
  poll(&request, 1, 1000)
}
