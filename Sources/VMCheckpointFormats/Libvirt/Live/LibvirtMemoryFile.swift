import CLinux
import Glibc
import SystemPackage
import VMCheckpoint

/// The file that libvirt writes a domain's memory into.
///
/// libvirt opens the file by its name, at the beginning and once more at the end. So it keeps its name that long,
/// in a directory of its own that nobody else can look into (mode 0700). libvirtd, being root or the same user,
/// can, and QEMU gets the open file from libvirtd. The file is made here and its descriptor kept, so that a
/// user who is not root can read what libvirtd writes.
///
/// A process that is killed leaves the directory. The lock on it goes with the process, and the next save into
/// a store beside it removes what has no lock. libvirt, if it still writes there, then finds no file at
/// the end, gives up, and lets the domain go on.
final class LibvirtMemoryFile {
  private static let prefix = ".vmckpt-libvirt-"
  private static let fileName = "memory"

  /// Absolute.
  let path: String
  /// The file, for reading.
  let descriptor: Int32
  private let directory: Int32
  private let directoryPath: String
  private var isRemoved = false
  private var isClosed = false

  /// Makes one in the directory `parent`, an absolute path.
  ///
  /// - Throws: ``VMCheckpointError``: `cannotCreate`, `permissionDenied` or `outOfResources`.
  init(in parent: String) throws(VMCheckpointError) {
    directoryPath = FilePath(parent).appending(Self.prefix + UniqueID.make()).string
    path = FilePath(directoryPath).appending(Self.fileName).string
    guard mkdir(directoryPath, 0o700) == 0 else { throw Self.failure(parent, errno) }
    directory = open(directoryPath, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard directory >= 0, flock(directory, LOCK_EX | LOCK_NB) == 0 else {
      let code = errno
      if directory >= 0 { Glibc.close(directory) }
      rmdir(directoryPath)
      throw Self.failure(parent, code)
    }
    let opened = openat(
      directory,
      Self.fileName,
      O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
      0o600
    )
    guard opened >= 0 else {
      let code = errno
      Glibc.close(directory)
      rmdir(directoryPath)
      throw Self.failure(parent, code)
    }
    descriptor = opened
  }

  deinit { close() }

  /// Removes the file and gives its space back.
  func close() {
    guard !isClosed else { return }
    isClosed = true
    remove()
    Glibc.close(descriptor)
    Glibc.close(directory)
  }

  /// How much libvirt has written. More than nothing shows that it has begun.
  var byteCount: Int {
    var status = stat()
    return fstat(descriptor, &status) == 0 ? Int(status.st_size) : 0
  }

  /// Takes the file's name away. It can still be read.
  func remove() {
    guard !isRemoved else { return }
    isRemoved = true
    unlinkat(directory, Self.fileName, 0)
    rmdir(directoryPath)
  }

  /// Removes what saves that were killed have left in the directory `parent`.
  static func removeLeftOver(in parent: String) {
    guard let stream = opendir(parent) else { return }
    defer { closedir(stream) }
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name.hasPrefix(prefix) { removeUnlessLocked(name, in: dirfd(stream)) }
    }
  }

  private static func removeUnlessLocked(_ name: String, in parent: Int32) {
    let directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard directory >= 0 else { return }
    defer { Glibc.close(directory) }
    var status = stat()
    guard fstat(directory, &status) == 0, status.st_uid == geteuid(),
      flock(directory, LOCK_EX | LOCK_NB) == 0
    else { return }
    unlinkat(directory, fileName, 0)
    unlinkat(parent, name, Int32(AT_REMOVEDIR))
  }

  private static func failure(_ parent: String, _ code: Int32) -> VMCheckpointError {
    let error = Errno(rawValue: code)
    return VMCheckpointError(
      [.permissionDenied, .notPermitted, .readOnlyFileSystem].contains(error)
        ? .permissionDenied : .cannotCreate,
      "cannot create a temporary file in \(quotedName(parent)): \(error)"
    ).orOutOfResources(error)
  }
}
