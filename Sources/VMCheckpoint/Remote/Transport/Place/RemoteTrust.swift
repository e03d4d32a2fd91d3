import Glibc
import SystemPackage

/// Which remotes of which stores this user has confirmed, on this host.
///
/// A store may be a stranger's, and name any server: that gets neither credentials nor pages before the user has
/// seen its address and agreed. Each confirmation is a file in the folder `remotes` of the user's state folder, whose
/// name is the SHA-256 of what was confirmed, and whose text shows it. Nothing of it is in a store.
package struct RemoteTrust: Sendable {
  /// What a user confirms.
  package struct Subject: Sendable, Hashable {
    /// The store's UUID: another store that names the same server is asked about anew.
    package var storeID: String
    package var address: RemoteAddress
    /// `nil` for AWS's own servers, and for folders.
    package var endpoint: RemoteEndpoint?

    package init(storeID: String, address: RemoteAddress, endpoint: RemoteEndpoint?) {
      self.storeID = storeID
      self.address = address
      self.endpoint = endpoint
    }

    /// Each part with its length before it, so that no two subjects have the same text.
    fileprivate var text: String {
      let parts = [storeID, address.description, endpoint?.description ?? ""]
      return "vmckpt remote 1\n" + parts.map { "\($0.utf8.count) \($0)\n" }.joined()
    }

    fileprivate var fileName: String { hexadecimal(SHA256Hasher.hash(Array(text.utf8))) }
  }

  /// The folder's name in ``UserStateFolder``.
  package static let folderName = "remotes"

  private let parent: UserStateFolder

  private var folder: UserStateFolder {
    UserStateFolder(path: "\(parent.path)/\(Self.folderName)")
  }

  /// - Parameter folder: `nil` for that of this process's user.
  /// - Throws: As ``UserStateFolder/init(environment:)``.
  package init(in folder: UserStateFolder? = nil) throws(VMCheckpointError) {
    parent = if let folder { folder } else { try UserStateFolder() }
  }

  /// Whether this user has confirmed it.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `permissionDenied` when others could have written the answer.
  package func isConfirmed(_ subject: Subject) throws(VMCheckpointError) -> Bool {
    guard let outer = try parent.open() else { return false }
    try? outer.close()
    guard let place = try folder.open() else { return false }
    defer { try? place.close() }
    let flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
    let file = openat(place.rawValue, subject.fileName, flags)
    guard file >= 0 else {
      let error = Errno(rawValue: errno)
      if error == .noSuchFileOrDirectory { return false }
      throw VMCheckpointError(.permissionDenied, "cannot open \(title(subject)): \(error)")
        .orOutOfResources(error)
    }
    defer { close(file) }
    var status = stat()
    guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
      status.st_uid == geteuid(), status.st_mode & 0o022 == 0
    else {
      throw VMCheckpointError(
        .permissionDenied,
        "another user may have written \(title(subject))",
        hint: "remove it, and confirm the remote again"
      )
    }
    let expected = Array(subject.text.utf8)
    // One more than there may be, so that a longer file shows. A cut one confirms nothing.
    var bytes = [UInt8](repeating: 0, count: expected.count + 1)
    let count = bytes.withUnsafeMutableBytes { buffer in
      try? FileIO.read(into: buffer, from: FileDescriptor(rawValue: file), at: 0)
    }
    return count.map { bytes[..<$0].elementsEqual(expected) } ?? false
  }

  /// Records that this user has confirmed it; again is no error.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `permissionDenied` or `cannotCreate`.
  package func confirm(_ subject: Subject) throws(VMCheckpointError) {
    try folder.make()
    if let outer = try parent.open() { try? outer.close() }
    guard let place = try folder.open() else {
      throw VMCheckpointError(.cannotCreate, "the folder \(quotedName(folder.path)) is gone")
    }
    defer { try? place.close() }
    let temporary = ".\(UniqueID.make()).tmp"
    let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
    let file = openat(place.rawValue, temporary, flags, mode_t(0o600))
    guard file >= 0 else { throw cannotRecord(subject, Errno(rawValue: errno)) }
    defer {
      close(file)
      unlinkat(place.rawValue, temporary, 0)
    }
    do throws(Errno) {
      let result = Array(subject.text.utf8).withUnsafeBytes { bytes in
        Result { () throws(Errno) in
          try FileIO.write(bytes, to: FileDescriptor(rawValue: file), at: 0)
        }
      }
      try result.get()
      guard fsync(file) == 0,
        renameat(place.rawValue, temporary, place.rawValue, subject.fileName) == 0
      else { throw Errno(rawValue: errno) }
    } catch {
      throw cannotRecord(subject, error)
    }
    fsync(place.rawValue)
  }

  /// Takes a confirmation back; one that was not given is no error.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `permissionDenied`.
  package func forget(_ subject: Subject) throws(VMCheckpointError) {
    guard let place = try folder.open() else { return }
    defer { try? place.close() }
    guard unlinkat(place.rawValue, subject.fileName, 0) == 0 || errno == ENOENT else {
      let error = Errno(rawValue: errno)
      throw VMCheckpointError(.permissionDenied, "cannot remove \(title(subject)): \(error)")
    }
  }

  private func title(_ subject: Subject) -> String {
    "the confirmation \(quotedName("\(folder.path)/\(subject.fileName)"))"
  }

  private func cannotRecord(_ subject: Subject, _ error: Errno) -> VMCheckpointError {
    let isDenied = [.permissionDenied, .notPermitted, .readOnlyFileSystem].contains(error)
    return VMCheckpointError(
      isDenied ? .permissionDenied : .cannotCreate,
      "cannot write \(title(subject)): \(error)"
    ).orOutOfResources(error)
  }
}
