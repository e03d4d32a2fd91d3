import Glibc
package import SystemPackage

/// Makes the names in a directory last.
package enum DirectorySync {
  /// Syncs the directory that holds `path`.
  ///
  /// - Throws: As ``sync(_:)``.
  package static func sync(directoryOf path: String) throws(Errno) {
    let directory = FilePath(path).removingLastComponent()
    try sync(directory.isEmpty ? "." : directory.string)
  }

  /// Syncs a directory. A file system that cannot do so, or a directory that may not be read, is
  /// not an error. Nothing can be done about it, and the files themselves are synced.
  ///
  /// - Throws: What the disk says, such as `EIO` or `ENOSPC`: the names may be gone after a power
  ///   failure.
  package static func sync(_ directory: String) throws(Errno) {
    let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else {
      let code = Errno(rawValue: errno)
      guard code == .permissionDenied || code == .notPermitted else { throw code }
      return
    }
    defer { close(descriptor) }
    while fsync(descriptor) != 0 {
      switch errno {
      case EINTR: continue
      case EINVAL, ENOTSUP, ENOSYS, EROFS: return
      case let code: throw Errno(rawValue: code)
      }
    }
  }
}
