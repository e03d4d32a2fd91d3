import CLinux
import GRDB
import Glibc
import SystemPackage

/// A store that is made beside its place, in a hidden file, and gets its name when it is whole: a
/// crash leaves a store or none.
///
/// The hidden file is removed when the object goes away.
final class NewStore {
  /// What there is where a store is to be.
  enum Place {
    case free
    /// A file without a byte, as `mktemp` makes one.
    case emptyFile
    /// A store, or something that is not a store.
    case taken
  }

  private let location: StoreLocation
  private let hidden: StoreLocation
  /// Whether it holds no snapshot.
  private let isEmpty: Bool

  /// Makes the hidden file, with an empty store in it.
  ///
  /// - Throws: As ``init(_:isEmpty:fill:)``.
  convenience init(_ location: StoreLocation) throws(VMCheckpointError) {
    try self.init(location, isEmpty: true) { hidden throws(VMCheckpointError) in
      let queue = try StoreConnection.connect(hidden, readOnly: false, busy: BusyPolicy())
      defer { ConnectionKeeper.retire(queue) }
      try translatingDatabaseErrors(storePath: location.given) {
        try queue.writeWithoutTransaction { database in
          // Both take effect only while the file is empty.
          try database.execute(
            sql: """
              PRAGMA page_size = \(StoreFormat.databasePageByteCount);
              PRAGMA auto_vacuum = INCREMENTAL;
              """
          )
        }
        try StoreMigration(location).makeStore(queue)
        try queue.close()
      }
    }
  }

  /// Makes the hidden file, and lets `fill` make it a store that is on disk as a whole.
  ///
  /// - Parameters:
  ///   - isEmpty: Whether it holds no snapshot then.
  ///   - fill: Gets the place of the file, which is empty and has mode 0600.
  /// - Throws: ``VMCheckpointError``: `cannotCreate`, `permissionDenied` or `inputOutput`, or what `fill`
  ///   throws; nothing is left.
  init(
    _ location: StoreLocation,
    isEmpty: Bool = false,
    fill: (StoreLocation) throws(VMCheckpointError) -> Void
  ) throws(VMCheckpointError) {
    try location.requireTrusted()
    try Self.requireNoOldJournal(location)
    self.location = location
    self.isEmpty = isEmpty
    hidden = location.forMaking()
    do {
      // Guest RAM is secret, so the file has mode 0600 from its first moment; SQLite gives its
      // journal the same.
      try FileDescriptor.open(
        FilePath(hidden.file),
        .readWrite,
        options: [.create, .exclusiveCreate, .closeOnExec],
        permissions: [.ownerReadWrite]
      ).close()
    } catch {
      throw Self.cannotCreate(location, error as? Errno ?? .ioError)
    }
    try fill(hidden)
  }

  deinit {
    unlink(hidden.file)
    unlink(hidden.journal)
    unlink(hidden.lock)
  }

  /// A journal that outlived its store would be written into the new one, and damage it.
  private static func requireNoOldJournal(_ location: StoreLocation) throws(VMCheckpointError) {
    for suffix in ["-journal", "-wal"] {
      let path = location.file + suffix
      var status = stat()
      // The order matters: a store that another process has just made may have its first journal.
      guard lstat(path, &status) == 0, status.st_size > 0, place(location) != .taken
      else { continue }
      throw VMCheckpointError(
        .cannotCreate,
        "cannot create store \(quotedName(location.given)): \(quotedName(path)) belongs to a store "
          + "that is not there any more",
        hint: "put that store back beside it, or remove it"
      )
    }
  }

  static func place(_ location: StoreLocation) -> Place {
    var status = stat()
    guard stat(location.file, &status) == 0 else { return errno == ENOENT ? .free : .taken }
    let isEmpty = status.st_mode & S_IFMT == S_IFREG && status.st_size == 0
    return isEmpty && status.st_nlink == 1 ? .emptyFile : .taken
  }

  /// Gives the store its name. Does nothing when another process was quicker.
  ///
  /// - Returns: Whether the name was free.
  /// - Parameter replacingEmptyFile: Whether an empty file is replaced. The caller has the writer's
  ///   lock, and has found one under it.
  /// - Throws: ``VMCheckpointError``; the store is not there then. But where its name could not be
  ///   made to last it stays, and is empty: another process may be about to use it.
  @discardableResult
  func commit(replacingEmptyFile: Bool = false) throws(VMCheckpointError) -> Bool {
    if replacingEmptyFile {
      guard rename(hidden.file, location.file) == 0 else {
        throw Self.cannotCreate(location, Errno(rawValue: errno))
      }
    } else if clinux_rename_noreplace(hidden.file, location.file) != 0 {
      let code = Errno(rawValue: errno)
      guard code != .fileExists else { return false }
      // Not every file system can rename so; a link never replaces a file either.
      guard code == .invalidArgument || code == .noFunction, link(hidden.file, location.file) == 0
      else {
        if errno == EEXIST { return false }
        throw Self.cannotCreate(location, code)
      }
      // Two names would be refused.
      unlink(hidden.file)
    }
    do throws(Errno) {
      try DirectorySync.sync(directoryOf: location.file)
    } catch {
      throw VMCheckpointError(
        .inputOutput,
        "cannot sync the directory of store \(quotedName(location.given)) to disk: \(error)",
        hint: isEmpty
          ? "the new store is there and empty; look at the disk, and try again"
          : "the new store is there and whole, and a power failure may undo it; look at the disk"
      )
    }
    return true
  }

  private static func cannotCreate(_ location: StoreLocation, _ error: Errno) -> VMCheckpointError {
    let store = quotedName(location.given)
    if [.permissionDenied, .notPermitted, .readOnlyFileSystem].contains(error) {
      return VMCheckpointError(
        .permissionDenied,
        "cannot create store \(store): \(error)",
        hint: "choose a directory that you may write to with --store"
      )
    }
    return VMCheckpointError(
      .cannotCreate,
      "cannot create store \(store): \(error)",
      hint: error == .noSpace ? VMCheckpointError.noSpaceHint : "choose another path"
    ).orOutOfResources(error)
  }
}
