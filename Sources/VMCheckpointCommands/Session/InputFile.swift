import Glibc
package import VMCheckpoint

/// A small input, such as overlays.json, read whole.
package struct InputFile {
  /// For messages.
  package var name: String
  package var maximumByteCount: Int

  package init(name: String, maximumByteCount: Int) {
    self.name = name
    self.maximumByteCount = maximumByteCount
  }

  /// Reads the file at `path`: a regular file or a pipe, as the shell's `<(…)` gives.
  package func read(path: String) throws(VMCheckpointError) -> [UInt8] {
    guard let descriptor = try ResolvedPath.open(source: path) else {
      throw failure("open", errno)
    }
    defer { close(descriptor) }
    return try read(descriptor: descriptor)
  }

  /// Reads from the current position of `descriptor` to its end.
  package func read(descriptor: Int32) throws(VMCheckpointError) -> [UInt8] {
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = Glibc.read(descriptor, &block, block.count)
      if count < 0 {
        if errno == EINTR { continue }
        guard errno == EAGAIN else { throw failure("read", errno) }
        // A process that shares the descriptor has made it non-blocking.
        awaitReady(descriptor, POLLIN)
        continue
      }
      if count == 0 { return bytes }
      bytes += block[..<count]
      guard bytes.count <= maximumByteCount else {
        throw VMCheckpointError(
          .invalidData,
          "\(name) has more than the \(maximumByteCount) bytes allowed"
        )
      }
    }
  }

  private func failure(_ verb: String, _ errorNumber: Int32) -> VMCheckpointError {
    let code: VMCheckpointError.Code =
      switch errorNumber {
      case ENOENT, ENOTDIR: .notFound
      case EACCES, EPERM: .permissionDenied
      default: .inputOutput
      }
    return VMCheckpointError(
      code,
      "cannot \(verb) \(name): \(systemErrorText(errorNumber))"
    ).orOutOfResources(errorNumber: errorNumber)
  }
}
