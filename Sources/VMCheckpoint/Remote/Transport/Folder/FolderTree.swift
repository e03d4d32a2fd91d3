import Glibc
import SystemPackage

/// The files below one folder, by paths whose every part is opened by itself: no symbolic link is followed, so that
/// nothing outside the folder is read or written, whoever filled it.
final class FolderTree: Sendable {
  /// For messages.
  let path: String

  private let root: Int32

  /// Opens the folder at `path`, which may itself be a symbolic link: the user named it.
  init(path: String) throws(Errno) {
    self.path = path
    root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if root < 0 { throw Errno(rawValue: errno) }
  }

  deinit { close(root) }

  /// Whether an error means that there is nothing at a path that can be an object or a folder of objects.
  static func meansAbsent(_ error: Errno) -> Bool {
    error == .noSuchFileOrDirectory || error == .notDirectory
      || error == .tooManySymbolicLinkLevels
  }

  /// Opens a folder below the root.
  ///
  /// - Parameters:
  ///   - makes: Whether folders that are missing are made, with mode 0700, and last.
  /// - Returns: A descriptor that the caller closes.
  func openFolder(_ parts: ArraySlice<Substring>, makes: Bool = false) throws(Errno) -> Int32 {
    var folder = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if folder < 0 { throw Errno(rawValue: errno) }
    for part in parts {
      let name = String(part)
      let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
      var next = openat(folder, name, flags)
      var failure = errno
      if next < 0, failure == ENOENT, makes {
        if mkdirat(folder, name, 0o700) == 0 {
          next = openat(folder, name, flags)
          failure = errno
          if next >= 0, let error = Self.syncFolder(folder) {
            close(next)
            close(folder)
            throw error
          }
        } else if errno == EEXIST {
          next = openat(folder, name, flags)
          failure = errno
        } else {
          failure = errno
        }
      }
      close(folder)
      if next < 0 { throw Errno(rawValue: failure) }
      folder = next
    }
    return folder
  }

  /// Opens a regular file to read it.
  ///
  /// - Returns: The descriptor, which the caller closes, and what `fstat` says; `nil` where there is no regular
  ///   file.
  func openFile(_ parts: [Substring]) throws(Errno) -> (descriptor: Int32, status: stat)? {
    let folder: Int32
    do throws(Errno) {
      folder = try openFolder(parts.dropLast())
    } catch {
      if Self.meansAbsent(error) { return nil }
      throw error
    }
    defer { close(folder) }
    // A FIFO would let the open wait for its writer.
    let flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
    let file = openat(folder, String(parts[parts.count - 1]), flags)
    if file < 0 {
      let error = Errno(rawValue: errno)
      // What cannot be opened as a file, such as a socket, is no object either.
      if Self.meansAbsent(error) || error.rawValue == ENXIO { return nil }
      throw error
    }
    var status = stat()
    if fstat(file, &status) != 0 {
      let error = Errno(rawValue: errno)
      close(file)
      throw error
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(file)
      return nil
    }
    return (file, status)
  }

  /// Syncs an open folder. What cannot be synced there is no error: a file system without such a call.
  ///
  /// - Returns: What the disk says.
  static func syncFolder(_ folder: Int32) -> Errno? {
    while fsync(folder) != 0 {
      switch errno {
      case EINTR: continue
      case EINVAL, ENOTSUP, ENOSYS, EROFS: return nil
      case let code: return Errno(rawValue: code)
      }
    }
    return nil
  }
}
