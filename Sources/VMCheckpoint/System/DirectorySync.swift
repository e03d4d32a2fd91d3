import Glibc
import SystemPackage

/// Makes the names in a directory last.
enum DirectorySync {
  /// Syncs the directory that holds `path`. Best effort: a file system that cannot do so, or a
  /// directory that may not be read, gives no error, as the file itself is synced.
  static func sync(directoryOf path: String) {
    let directory = FilePath(path).removingLastComponent()
    guard
      let descriptor = try? FileDescriptor.open(
        directory.isEmpty ? "." : directory,
        .readOnly,
        options: [.closeOnExec, .directory]
      )
    else { return }
    _ = fsync(descriptor.rawValue)
    try? descriptor.close()
  }
}
