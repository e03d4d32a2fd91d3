import CLinux
import Glibc
package import SystemPackage

/// Temporary files for what must be put down for a moment: without a name, mode 0600, gone with the process.
package enum SpoolFile {
  /// Makes an empty one in `directory`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `cannotCreate`, `permissionDenied` or `outOfResources`.
  package static func make(in directory: String) throws(VMCheckpointError) -> FileDescriptor {
    let unnamed = open(directory, clinux_o_tmpfile | O_RDWR | O_CLOEXEC, 0o600)
    if unnamed >= 0 { return FileDescriptor(rawValue: unnamed) }
    if errno == EOPNOTSUPP || errno == EISDIR {
      let path = FilePath(directory).appending(".vmckpt-\(UniqueID.make()).tmp").string
      let named = open(path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0o600)
      if named >= 0 {
        unlink(path)
        return FileDescriptor(rawValue: named)
      }
    }
    let code = Errno(rawValue: errno)
    throw VMCheckpointError(
      [.permissionDenied, .notPermitted, .readOnlyFileSystem].contains(code)
        ? .permissionDenied : .cannotCreate,
      "cannot create a temporary file in \(quotedName(directory)): \(code)"
    ).orOutOfResources(code)
  }

  /// The error for a file in `directory` that cannot be read or written.
  ///
  /// - Parameter thing: What is put down there, as in "the guest's RAM".
  package static func failure(
    _ verb: String,
    in directory: String,
    _ error: Errno,
    thing: String
  ) -> VMCheckpointError {
    VMCheckpointError(
      .inputOutput,
      "cannot \(verb) a temporary file in \(quotedName(directory)): \(error)",
      hint: error == .noSpace
        ? "\(thing) is put down there for a moment; free some space and try again" : nil
    )
  }
}
