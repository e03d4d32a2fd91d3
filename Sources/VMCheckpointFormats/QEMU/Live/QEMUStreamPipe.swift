import CLinux
import Glibc
import SystemPackage
import VMCheckpoint

/// The pipe through which QEMU sends a VM's state to the process that saves it.
final class QEMUStreamPipe {
  /// How another process finds the end that is read.
  struct Place: Codable, Hashable {
    /// The number that the end has in the saving process.
    var descriptor: Int32
    /// The pipe's own number: by then another file may have the descriptor's.
    var inode: UInt64
  }

  private var reader: Int32
  private var writer: Int32
  let place: Place

  /// - Throws: ``VMCheckpointError``.
  init() throws(VMCheckpointError) {
    var ends: [Int32] = [-1, -1]
    var status = stat()
    guard clinux_pipe(&ends) == 0 else { throw Self.failure() }
    guard fstat(ends[0], &status) == 0 else {
      let failure = Self.failure()
      ends.forEach { close($0) }
      throw failure
    }
    (reader, writer) = (ends[0], ends[1])
    place = Place(descriptor: reader, inode: UInt64(status.st_ino))
  }

  deinit {
    if reader >= 0 { close(reader) }
    closeWriter()
  }

  /// The end that QEMU gets.
  var writingEnd: Int32 { writer }

  /// Closes the end that QEMU has as well, so that the pipe ends when QEMU has sent all.
  func closeWriter() {
    if writer >= 0 { close(writer) }
    writer = -1
  }

  /// Hands over the end that is read, which the caller closes.
  func takeReader() -> Int32 {
    defer { reader = -1 }
    return reader
  }

  private static func failure() -> VMCheckpointError {
    let error = Errno(rawValue: errno)
    return VMCheckpointError(.inputOutput, "cannot make a pipe: \(error)").orOutOfResources(error)
  }
}
