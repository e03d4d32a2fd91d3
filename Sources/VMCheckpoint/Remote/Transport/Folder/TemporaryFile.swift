import Glibc
import SystemPackage

/// A file that is being written in a remote's folder and gets its place by a rename.
///
/// It is locked while it is written, by which others see that it is not abandoned. Between its making and its lock it
/// looks abandoned; then the rename finds it gone, and it is written again.
final class TemporaryFile {
  /// Open for reading and writing.
  let descriptor: Int32

  private let folder: Int32
  private let name: String
  private var isNamed = true

  /// - Parameter folder: A descriptor that the object closes.
  init(in folder: Int32) throws(Errno) {
    self.folder = folder
    name = UniqueID.make()
    descriptor = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      let error = Errno(rawValue: errno)
      isNamed = false
      throw error
    }
    // A file system without locks has no cleaning either.
    flock(descriptor, LOCK_EX | LOCK_NB)
  }

  deinit {
    remove()
    close(descriptor)
    close(folder)
  }

  /// Removes the file if it has no place yet.
  func remove() {
    guard isNamed else { return }
    unlinkat(folder, name, 0)
    isNamed = false
  }

  func sync() throws(Errno) {
    while fsync(descriptor) != 0 {
      if errno != EINTR { throw Errno(rawValue: errno) }
    }
  }

  /// Gives the file a name in another folder, in place of a file that has it.
  ///
  /// - Returns: `false` when the file is gone.
  func rename(to target: String, in targetFolder: Int32) throws(Errno) -> Bool {
    guard isNamed else { return false }
    guard renameat(folder, name, targetFolder, target) == 0 else {
      let error = Errno(rawValue: errno)
      guard error == .noSuchFileOrDirectory, !exists else { throw error }
      isNamed = false
      return false
    }
    isNamed = false
    return true
  }

  private var exists: Bool {
    var status = stat()
    return fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0
  }

  /// Removes the files in a folder that nobody has locked.
  ///
  /// - Parameter folder: A descriptor, which is closed.
  static func removeAbandoned(in folder: Int32) {
    guard let directory = fdopendir(folder) else {
      close(folder)
      return
    }
    defer { closedir(directory) }
    var seenCount = 0
    while seenCount < 4096, let entry = readdir(directory) {
      seenCount += 1
      let name = withUnsafeBytes(of: &entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      // Only what this one makes.
      guard name.utf8.count == 36 else { continue }
      let flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
      let file = openat(dirfd(directory), name, flags)
      guard file >= 0 else { continue }
      if flock(file, LOCK_EX | LOCK_NB) == 0 { unlinkat(dirfd(directory), name, 0) }
      close(file)
    }
  }
}
