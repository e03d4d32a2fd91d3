import Glibc
import SystemPackage

/// Where a store is: the one true path of its file, however the user came to it, and the files that
/// belong to it.
///
/// SQLite's journal and the ``StoreLock`` are found by name, beside the file. Two names for one file
/// would be two journals and two locks, and neither would guard the store. So symbolic links are
/// followed before anything is opened, by ``LinkRule``, and a file with several names is refused.
/// (SQLite, "How To Corrupt An SQLite Database File", 2.5: multiple links to the same file.)
package struct StoreLocation: Sendable {
  /// As the user gave it, for messages.
  let given: String

  /// Absolute, without symbolic links; never one of SQLite's special names, such as `:memory:` or
  /// a URI.
  let file: String

  /// What SQLite and vmckpt append to the file's name for files of their own.
  static let suffixes = ["-journal", "-lock", "-wal", "-shm"]

  /// Resolves `path`, at which there may be nothing yet.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidArgument`, `cannotCreate`, `notFound`, or
  ///   `permissionDenied` for somebody else's link.
  package init(_ path: String) throws(VMCheckpointError) {
    given = path
    guard !path.isEmpty, !path.utf8.contains(0) else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(quotedName(path)) is not the path of a store",
        hint: "give the path of a file with --store"
      )
    }
    file = try ResolvedPath.of(path)
    let name = FilePath(file).lastComponent?.string ?? ""
    let room = Int(NAME_MAX) - (Self.suffixes.map(\.utf8.count).max() ?? 0)
    guard name.utf8.count <= room else {
      throw VMCheckpointError(
        .cannotCreate,
        "the name of store \(quotedName(path)) has \(name.utf8.count) bytes, and at most \(room) "
          + "leave room for the files beside it",
        hint: "choose a shorter name"
      )
    }
  }

  /// The directory that the store is in.
  var directory: String { FilePath(file).removingLastComponent().string }

  private init(given: String, file: String) {
    self.given = given
    self.file = file
  }

  /// A hidden file beside the store, in which a new store is made before it gets its name.
  func forMaking() -> StoreLocation {
    let path = FilePath(file)
    let stem = String(decoding: (path.lastComponent?.string ?? "").utf8.prefix(200), as: UTF8.self)
    let name = ".\(stem).\(UniqueID.make().prefix(8)).new"
    return StoreLocation(
      given: given,
      file: path.removingLastComponent().appending(name).string
    )
  }

  var journal: String { file + "-journal" }

  var lock: String { file + "-lock" }

  /// Whether `path` names this store or a file that belongs to it, whether or not it exists.
  func owns(_ path: String) -> Bool {
    let ownFiles = [file] + Self.suffixes.map { file + $0 }
    if let resolved = try? ResolvedPath.of(path), ownFiles.contains(resolved) { return true }
    var status = stat()
    guard stat(path, &status) == 0 else { return false }
    return ownFiles.contains { own in
      var ownStatus = stat()
      return stat(own, &ownStatus) == 0 && ownStatus.st_dev == status.st_dev
        && ownStatus.st_ino == status.st_ino
    }
  }

  /// Whether a descriptor is open on one of the store's files.
  func owns(fileDescriptor: Int32) -> Bool {
    ([file] + Self.suffixes.map { file + $0 }).contains {
      ResolvedPath.leads($0, toFileOf: fileDescriptor)
    }
  }

  /// Checks that the file has this name only.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`.
  func requireSingleName(_ status: stat) throws(VMCheckpointError) {
    guard status.st_nlink > 1 else { return }
    throw VMCheckpointError(
      .corrupt,
      "store \(quotedName(given)) has \(status.st_nlink) names (hard links), and processes that "
        + "use different ones would damage it",
      hint: "remove the others, or copy the file and use the copy"
    )
  }
}
