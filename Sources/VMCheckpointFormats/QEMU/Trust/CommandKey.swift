import CLinux
import Glibc
import SystemPackage
package import VMCheckpoint

/// This user's key on this host, with which `save qemu:` proves that it recorded a command line itself.
///
/// 32 random bytes in the file `command-key` of the user's state folder, which nobody else can read. The first
/// save makes it. It never leaves the host: a store that is copied elsewhere proves nothing there.
package struct CommandKey: Sendable {
  /// The file's name in ``UserStateFolder``.
  package static let fileName = "command-key"
  package static let byteCount = 32

  private let bytes: [UInt8]

  private init(bytes: [UInt8]) {
    self.bytes = bytes
  }

  /// The code of `message` under this key; `nil` when there is no memory for it.
  func code(of message: [UInt8]) -> [UInt8]? { HMACSHA256.code(of: message, key: bytes) }

  /// The SHA-256 of a prefix and the key. It shows that a key is this one, and nothing else of it.
  func fingerprint(prefix: [UInt8]) -> [UInt8] { SHA256Hasher.hash(prefix + bytes) }

  /// The key of the folder's user.
  ///
  /// - Returns: `nil` when there is none.
  /// - Throws: ``VMCheckpointError``: `permissionDenied` when others could know or change the key,
  ///   `invalidData` when the file holds something else.
  package static func load(from folder: UserStateFolder) throws(VMCheckpointError) -> CommandKey? {
    guard let place = try folder.open() else { return nil }
    defer { try? place.close() }
    let title = title(in: folder)
    let flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
    let opened = openat(place.rawValue, fileName, flags)
    guard opened >= 0 else {
      let error = Errno(rawValue: errno)
      if error == .noSuchFileOrDirectory { return nil }
      throw VMCheckpointError(.permissionDenied, "cannot open \(title): \(error)")
        .orOutOfResources(error)
    }
    defer { close(opened) }
    var status = stat()
    guard fstat(opened, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw unusable(.invalidData, "\(title) is not a regular file")
    }
    guard status.st_uid == geteuid() else {
      throw unusable(
        .permissionDenied,
        "\(title) belongs to another user (uid \(status.st_uid))"
      )
    }
    guard status.st_mode & 0o077 == 0 else {
      let mode = UserStateFolder.octal(status.st_mode)
      throw unusable(.permissionDenied, "others may read or change \(title) (mode \(mode))")
    }
    // One more than there may be, so that a longer file shows.
    var bytes = [UInt8](repeating: 0, count: byteCount + 1)
    let count = read(opened, &bytes, bytes.count)
    guard count == byteCount, status.st_size == byteCount else {
      throw unusable(.invalidData, "\(title) does not have \(byteCount) bytes")
    }
    return CommandKey(bytes: Array(bytes[..<byteCount]))
  }

  /// The key of the folder's user. Makes folder and key where there is none; of processes that do so at once,
  /// all get the same key.
  ///
  /// - Throws: As ``load(from:)``, and `cannotCreate` or `inputOutput` when it cannot be made.
  package static func loadOrMake(in folder: UserStateFolder) throws(VMCheckpointError) -> CommandKey
  {
    if let key = try load(from: folder) { return key }
    try folder.make()
    try write(to: folder)
    // This one, or that of another process that was first.
    guard let key = try load(from: folder) else {
      throw VMCheckpointError(.cannotCreate, "\(title(in: folder)) is gone while it is made")
    }
    return key
  }

  /// Makes a key, unless one is there.
  private static func write(to folder: UserStateFolder) throws(VMCheckpointError) {
    guard let place = try folder.open() else {
      throw VMCheckpointError(.cannotCreate, "the folder \(quotedName(folder.path)) is gone")
    }
    defer { try? place.close() }
    let temporary = ".\(fileName).\(UniqueID.make()).tmp"
    let opened = openat(
      place.rawValue,
      temporary,
      O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
      mode_t(0o600)
    )
    guard opened >= 0 else { throw cannotMake(in: folder, Errno(rawValue: errno)) }
    defer {
      close(opened)
      unlinkat(place.rawValue, temporary, 0)
    }
    var generator = SystemRandomNumberGenerator()
    let bytes = (0..<byteCount).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    // A mask of the user's may have taken bits from the mode.
    guard fchmod(opened, 0o600) == 0 else { throw cannotMake(in: folder, Errno(rawValue: errno)) }
    do throws(Errno) {
      let result = bytes.withUnsafeBytes { buffer in
        Result { () throws(Errno) in
          try FileIO.write(buffer, to: FileDescriptor(rawValue: opened), at: 0)
        }
      }
      try result.get()
      guard fsync(opened) == 0 else { throw Errno(rawValue: errno) }
    } catch {
      throw cannotMake(in: folder, error)
    }
    // The name appears with all of the bytes, or another process's has come first.
    let (path, target) = ("\(folder.path)/\(temporary)", "\(folder.path)/\(fileName)")
    if clinux_rename_noreplace(path, target) != 0, errno != EEXIST,
      link(path, target) != 0, errno != EEXIST
    {
      throw cannotMake(in: folder, Errno(rawValue: errno))
    }
    fsync(place.rawValue)
  }

  private static func title(in folder: UserStateFolder) -> String {
    "the key \(quotedName("\(folder.path)/\(fileName)"))"
  }

  private static func unusable(
    _ code: VMCheckpointError.Code,
    _ message: String
  ) -> VMCheckpointError {
    VMCheckpointError(
      code,
      message,
      hint:
        "remove it; the next save of a VM of QEMU makes a new one, which proves what is saved then"
    )
  }

  private static func cannotMake(in folder: UserStateFolder, _ error: Errno) -> VMCheckpointError {
    let isDenied = [.permissionDenied, .notPermitted, .readOnlyFileSystem].contains(error)
    return VMCheckpointError(
      isDenied ? .permissionDenied : .cannotCreate,
      "cannot create \(title(in: folder)): \(error)"
    ).orOutOfResources(error)
  }
}
