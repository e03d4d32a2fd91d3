import Glibc
package import SystemPackage

/// Files that this process has open already.
package enum OpenFile {
  /// Descriptors up to here are looked at.
  private static let descriptorLimit: Int32 = 256

  /// A descriptor that the file at `path` can be written through, whoever in this process has opened it. Its owner may
  /// close it at any time: good for hints only.
  ///
  /// To open the file once more would be no substitute: closing that drops all locks that SQLite has on the file.
  package static func writableDescriptor(path: String) -> FileDescriptor? {
    var (wanted, found) = (stat(), stat())
    guard stat(path, &wanted) == 0 else { return nil }
    for descriptor in 0..<descriptorLimit
    where fstat(descriptor, &found) == 0 && found.st_dev == wanted.st_dev
      && found.st_ino == wanted.st_ino && fcntl(descriptor, F_GETFL) & O_ACCMODE == O_RDWR
    {
      return FileDescriptor(rawValue: descriptor)
    }
    return nil
  }
}
