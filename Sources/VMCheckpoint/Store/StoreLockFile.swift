import Glibc
import SystemPackage

/// The file of a ``StoreLock``: opened, or made where there is none, and put right where its owner or
/// mode is not the store's.
struct StoreLockFile {
  private let location: StoreLocation
  private let mode: StoreLock.Mode
  private let access: StoreFileAccess
  private var path: String { location.lock }

  init(_ location: StoreLocation, _ mode: StoreLock.Mode) {
    self.location = location
    self.mode = mode
    var status = stat()
    let isThere = lstat(location.file, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    access = isThere ? StoreFileAccess(status) : StoreFileAccess()
  }

  /// What can be locked.
  ///
  /// - Throws: ``VMCheckpointError``: `permissionDenied` with what to change, or `inputOutput`.
  func open() throws(VMCheckpointError) -> StoreLock.Holder {
    var attempts = 0
    while true {
      attempts += 1
      // Not with O_CREAT: in a sticky directory the kernel would refuse another user's file.
      if let descriptor = existing(O_RDWR) { return .file(descriptor) }
      if errno == ENOENT {
        guard let holder = try make() else { continue }
        return holder
      }
      if let descriptor = existing(O_RDONLY) {
        guard mode == .exclusive else { return .file(descriptor) }
        try? descriptor.close()
        // Its owner may have made it writable just now.
        if let descriptor = existing(O_RDWR) { return .file(descriptor) }
      }
      let code = Errno(rawValue: errno)
      if code == .noSuchFileOrDirectory { continue }
      // The process that makes the file gives it its mode a moment later.
      guard code == .permissionDenied, attempts == 1 else { throw cannotOpen(code) }
      usleep(20_000)
    }
  }

  private func existing(_ flags: Int32) -> FileDescriptor? {
    let descriptor = Glibc.open(path, flags | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { return nil }
    var status = stat()
    // Only what is a lock file for sure: a link to another file may be there under this name.
    if fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size == 0,
      status.st_nlink == 1
    {
      access.apply(to: descriptor)
    }
    return FileDescriptor(rawValue: descriptor)
  }

  /// - Returns: `nil` when another process was quicker.
  private func make() throws(VMCheckpointError) -> StoreLock.Holder? {
    let user = geteuid()
    // Its owner must be one whom others trust with the store: see ``StoreLocation/requireTrusted()``.
    guard user == 0 || user == access.owner || Glibc.access(location.file, W_OK) == 0 || isReadOnly
    else { throw cannotMake(.permissionDenied) }
    let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    if descriptor >= 0 {
      access.apply(to: descriptor)
      return .file(FileDescriptor(rawValue: descriptor))
    }
    switch Errno(rawValue: errno) {
    case .fileExists: return nil
    case .readOnlyFileSystem where mode == .shared:
      return .transaction(try StoreReadTransaction(location))
    case let code: throw cannotMake(code)
    }
  }

  private var isReadOnly: Bool {
    var status = statvfs()
    return statvfs(location.directory, &status) == 0 && status.f_flag & UInt(ST_RDONLY) != 0
  }

  private func cannotOpen(_ error: Errno) -> VMCheckpointError {
    var status = stat()
    let isOwners = lstat(path, &status) != 0 || status.st_uid == access.owner
    let digits = String(access.mode, radix: 8)
    let mode = String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    return VMCheckpointError(
      Self.isDenial(error) ? .permissionDenied : .inputOutput,
      "cannot open the store's lock file \(quotedName(path)): \(error)",
      hint: !Self.isDenial(error)
        ? nil
        : error == .readOnlyFileSystem
          ? "the file system must be mounted for writing"
          : isOwners
            ? "let the owner run: chmod \(mode) \(quotedName(path))"
            : "let root run: chown \(access.owner):\(access.group) \(quotedName(path)) && "
              + "chmod \(mode) \(quotedName(path))"
    ).orOutOfResources(error)
  }

  private func cannotMake(_ error: Errno) -> VMCheckpointError {
    VMCheckpointError(
      Self.isDenial(error) ? .permissionDenied : .inputOutput,
      "cannot make the store's lock file \(quotedName(path)): \(error)",
      hint: !Self.isDenial(error)
        ? error == .noSpace ? VMCheckpointError.noSpaceHint : nil
        : error == .readOnlyFileSystem
          ? "the file system must be mounted for writing"
          : "let the store's owner run vmckpt gc --dry-run, which makes it"
    ).orOutOfResources(error)
  }

  private static func isDenial(_ error: Errno) -> Bool {
    [.permissionDenied, .notPermitted, .readOnlyFileSystem].contains(error)
  }
}
