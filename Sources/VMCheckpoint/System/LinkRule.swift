import CLinux
package import Glibc

/// Whose symbolic links are followed.
///
/// A link that another user has made leads this user's reads and writes wherever that user likes. In a
/// sticky directory that others can write to, such as `/tmp`, a link is followed only if its owner is
/// this user or the directory's. This is the kernel's rule (`fs.protected_symlinks`), and applies here
/// even where the kernel's is switched off. And the link that leads to the file itself is followed only
/// if its owner is this user or root.
package struct LinkRule {
  /// Whether the link is the last part of its path, which leads to the file itself.
  package var isLast: Bool

  /// - Parameters:
  ///   - status: Of the link.
  ///   - directory: Where the link is; a path without links.
  /// - Throws: ``VMCheckpointError`` with the code `permissionDenied`.
  package func check(
    _ link: String,
    _ status: stat,
    in directory: String
  ) throws(VMCheckpointError) {
    let owner = status.st_uid
    guard owner != geteuid() else { return }
    var place = stat()
    let isShared =
      stat(directory, &place) != 0
      || place.st_mode & (S_ISVTX | S_IWOTH) == S_ISVTX | S_IWOTH
    guard isShared && owner != place.st_uid || isLast && owner != 0 else { return }
    throw VMCheckpointError(
      .permissionDenied,
      "another user (uid \(owner)) owns the symbolic link \(quotedName(link))",
      hint: "give the path that it leads to, if you trust that user"
    )
  }

  /// Whether the kernel itself makes the links in this directory: it is in `/proc`.
  package static func isKernels(directory: String) -> Bool {
    clinux_is_in_proc(directory) == 1
  }
}
