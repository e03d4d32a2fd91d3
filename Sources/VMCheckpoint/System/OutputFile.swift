import CLinux
import Glibc
package import SystemPackage

/// A file that appears under its name only when it is complete: written beside its target with
/// mode 0600, synced, and renamed.
///
/// A symbolic link is followed, so that what it leads to is replaced and not the link; whose links are
/// followed is ``LinkRule``'s to say. If ``commit()`` is not called, the temporary file is removed when the object goes away.
package final class OutputFile: Sendable {
  /// What the user asked for, for messages.
  package let path: String
  /// `path` with symbolic links followed, so that a link's target is replaced and not the link.
  private let targetPath: String
  private let temporaryPath: String
  private let overwriting: Bool
  package let descriptor: FileDescriptor
  private let state = CommitState()

  private final class CommitState: @unchecked Sendable {
    var isCommitted = false
    /// There was no file of this name before.
    var isNew = false
  }

  /// Creates the temporary file.
  ///
  /// - Parameter shownPath: What messages call the file, if not by its path.
  /// - Throws: ``VMCheckpointError``: `cannotCreate` when the target exists and may not be
  ///   overwritten, or cannot be created; `permissionDenied` for a link that ``LinkRule`` refuses.
  package init(
    path: String,
    overwriting: Bool,
    shownAs shownPath: String? = nil
  ) throws(VMCheckpointError) {
    self.path = shownPath ?? path
    self.overwriting = overwriting
    // The slash says that it is a folder; without this check a file of its name would be made or replaced.
    guard path.utf8.last != UInt8(ascii: "/") else {
      throw VMCheckpointError(
        .cannotCreate,
        "cannot create \(quotedName(self.path)): that names a folder",
        hint: "give the file's name too"
      )
    }
    targetPath = try Self.resolvingLinks(path)
    try Self.check(targetPath, overwriting: overwriting)
    let target = FilePath(targetPath)
    guard let name = target.lastComponent, name.kind == .regular else {
      throw VMCheckpointError(
        .cannotCreate,
        "cannot create \(quotedName(self.path)): it names no file"
      )
    }
    // Long names are cut: the temporary one must fit as well.
    let stem = String(decoding: name.string.utf8.prefix(200), as: UTF8.self)
    temporaryPath =
      target.removingLastComponent().appending(".\(stem).\(UniqueID.make().prefix(8)).tmp").string
    do {
      descriptor = try FileDescriptor.open(
        FilePath(temporaryPath),
        .readWrite,
        options: [.create, .exclusiveCreate, .closeOnExec],
        permissions: [.ownerReadWrite]
      )
    } catch {
      throw Self.cannotCreate(self.path, error as? Errno ?? .ioError)
    }
  }

  deinit {
    try? descriptor.close()
    if !state.isCommitted { unlink(temporaryPath) }
  }

  /// Sets the file's size; what is not written reads as zeros and takes no space.
  package func setByteCount(_ byteCount: UInt64) throws(VMCheckpointError) {
    guard ftruncate(descriptor.rawValue, off_t(byteCount)) == 0 else {
      let code = Errno(rawValue: errno)
      throw VMCheckpointError(
        .cannotCreate,
        "cannot make \(quotedName(path)) \(byteCount) bytes large: \(code)",
        hint: code == .fileTooLarge
          ? "the file system, or a limit (ulimit -f), does not allow files that large"
          : clinux_file_system_type(FilePath(targetPath).removingLastComponent().string)
            == FileSystemType.hugePages
            ? "huge pages (hugetlbfs) cannot be written to as a file; give a path elsewhere, such as in /dev/shm"
            : nil
      )
    }
  }

  /// Checks that the file system has room.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `cannotCreate`.
  package func requireFreeSpace(byteCount: UInt64) throws(VMCheckpointError) {
    var status = statvfs()
    guard fstatvfs(descriptor.rawValue, &status) == 0 else { return }
    let free = UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize))
    guard !free.overflow, free.partialValue < byteCount else { return }
    throw VMCheckpointError(
      .cannotCreate,
      """
      not enough space for \(quotedName(path)): it needs \(byteCount) bytes, and \
      \(free.partialValue) are free
      """,
      hint: "free some space, or restore to another file system"
    )
  }

  /// Writes all of `bytes` at `offset`. Threads may write different parts at once.
  package func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(VMCheckpointError) {
    do throws(Errno) {
      try FileIO.write(bytes, to: descriptor, at: offset)
    } catch {
      throw VMCheckpointError(
        .inputOutput,
        "cannot write \(quotedName(path)): \(error)",
        hint: error == .noSpace ? "free some space and try again" : nil
      )
    }
  }

  /// Writes `text` at the file's beginning.
  package func write(_ text: String) throws {
    try Array(text.utf8).withUnsafeBytes { try write($0, at: 0) }
  }

  /// Syncs the file to disk and puts it in its place.
  ///
  /// - Throws: ``VMCheckpointError``; the target is as it was then. But where a name was given and
  ///   could not be made to last, a file that was replaced stays so, and the error says it.
  package func commit() throws(VMCheckpointError) {
    guard fsync(descriptor.rawValue) == 0 else {
      throw VMCheckpointError(
        .inputOutput,
        "cannot write \(quotedName(path)): \(Errno(rawValue: errno))"
      )
    }
    try rename()
    state.isCommitted = true
    do throws(Errno) {
      try DirectorySync.sync(directoryOf: targetPath)
    } catch {
      withdraw()
      throw VMCheckpointError(
        .inputOutput,
        "cannot sync the directory of \(quotedName(path)) to disk: \(error)",
        hint: state.isNew
          ? "the new file was removed; look at the disk, and try again"
          : "the file was replaced, and may be the old one again after a power failure"
      )
    }
  }

  /// Takes back a ``commit()``: removes the file, unless it replaced another one.
  package func withdraw() {
    guard state.isCommitted, state.isNew else { return }
    var (own, found) = (stat(), stat())
    // Never somebody else's file that has come in its place.
    guard fstat(descriptor.rawValue, &own) == 0, lstat(targetPath, &found) == 0,
      own.st_dev == found.st_dev, own.st_ino == found.st_ino
    else { return }
    unlink(targetPath)
  }

  private func rename() throws(VMCheckpointError) {
    if overwriting {
      try Self.check(targetPath, overwriting: true)
      if clinux_rename_noreplace(temporaryPath, targetPath) == 0 {
        state.isNew = true
        return
      }
      guard Glibc.rename(temporaryPath, targetPath) == 0 else {
        throw Self.cannotCreate(path, Errno(rawValue: errno))
      }
      return
    }
    state.isNew = true
    // A link, unlike a rename, never replaces a file that has come in the meantime.
    if link(temporaryPath, targetPath) == 0 {
      unlink(temporaryPath)
      return
    }
    guard errno != EEXIST else { throw Self.exists(path) }
    // Not every file system has hard links.
    try Self.check(targetPath, overwriting: false)
    guard Glibc.rename(temporaryPath, targetPath) == 0 else {
      throw Self.cannotCreate(path, Errno(rawValue: errno))
    }
  }

  private static func resolvingLinks(_ path: String) throws(VMCheckpointError) -> String {
    let resolved = try ResolvedPath.of(path)
    var status = stat()
    // A link to nothing does not name a new file. The pipe that /dev/stdout or /dev/fd/63 leads
    // to has no path.
    let leadsToNoFile =
      lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFLNK
      && (stat(path, &status) != 0 || status.st_mode & S_IFMT != S_IFREG)
    return leadsToNoFile ? path : resolved
  }

  private static func check(_ path: String, overwriting: Bool) throws(VMCheckpointError) {
    var status = stat()
    guard lstat(path, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw VMCheckpointError(
        .cannotCreate,
        "cannot create \(quotedName(path)): it exists and is not a regular file",
        hint: "give another path, or - for standard output"
      )
    }
    guard overwriting else { throw exists(path) }
  }

  private static func exists(_ path: String) -> VMCheckpointError {
    VMCheckpointError(
      .cannotCreate,
      "\(quotedName(path)) exists already",
      hint: "give another path, or --force to replace it"
    )
  }

  private static func cannotCreate(_ path: String, _ error: Errno) -> VMCheckpointError {
    let denied = [.permissionDenied, .notPermitted, .readOnlyFileSystem].contains(error)
    return VMCheckpointError(
      denied ? .permissionDenied : .cannotCreate,
      "cannot create \(quotedName(path)): \(error)",
      hint: error == .noSuchFileOrDirectory
        ? "make its folder first, or give another path"
        : error == .notDirectory
          ? "a part of the path is a file; give another path"
          : error == .readOnlyFileSystem
            ? "give a path on a file system that may be written to"
            : error == .noSpace ? VMCheckpointError.noSpaceHint : nil
    ).orOutOfResources(error)
  }
}
