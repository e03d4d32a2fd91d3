package import GRDB
import GRDBSQLite
import Glibc
import SystemPackage

/// How a connection to a store is set up, opened and checked.
package enum StoreConnection {
  /// SQLite's cache of clean pages. Small, because every page of guest RAM passes just once.
  private static let cacheKiB = 16 * 1024

  /// The cache for reading chunks and nothing else. SQLite reads the next pages into memory that the
  /// processor still has in its own cache. That saves a fifth of the reading.
  private static let chunkReadingCacheKiB = 2 * 1024

  /// More than opening takes.
  private static let memoryOfConnection = 1 << 20

  /// Gives a connection that reads nothing but chunks, as long as it lives, the cache for that.
  static func readChunksOnly(_ database: Database) throws {
    try database.execute(sql: "PRAGMA cache_size = -\(chunkReadingCacheKiB)")
  }

  /// Runs `body` with a cache that suits the reading of many chunks.
  static func readingChunks<Result>(
    _ database: Database,
    _ body: () throws -> Result
  ) throws -> Result {
    try database.execute(sql: "PRAGMA cache_size = -\(chunkReadingCacheKiB)")
    defer { try? database.execute(sql: "PRAGMA cache_size = -\(cacheKiB)") }
    return try body()
  }

  /// Opens the file at `location`, which must exist, and checks that it is a store of a version that
  /// this program knows. To be written, one of an older version is brought up to this one first.
  ///
  /// Falls back to reading only when the file, or its directory, may not be written.
  ///
  /// - Parameter writerLock: The writer's lock, if the caller has it.
  /// - Throws: ``VMCheckpointError`` that says which of these is not so.
  package static func open(
    location: StoreLocation,
    for purpose: StorePurpose = .reading,
    busy: BusyPolicy,
    writerLock: StoreLock? = nil,
    migrations: [StoreFormat.Migration] = StoreFormat.migrations,
    cancellation: CancellationFlag = CancellationFlag()
  ) throws(VMCheckpointError) -> (queue: DatabaseQueue, isReadOnly: Bool) {
    let isStore = try checkFile(location)
    let isReadOnly = access(location.file, W_OK) != 0
    if isStore, !isReadOnly {
      location.makeJournal()
      // Somebody may have made one just before.
      try location.requireTrusted()
    }
    let queue = try connect(location, readOnly: isReadOnly, busy: busy)
    do throws(VMCheckpointError) {
      let migration = StoreMigration(location, migrations)
      if let version = try checkFormat(queue, location: location, migration) {
        guard purpose == .writing, !isReadOnly else { throw migration.isNeeded(from: version) }
        try migration.run(queue, writerLock: writerLock, cancellation: cancellation)
        _ = try checkFormat(queue, location: location, migration)
      }
    } catch {
      ConnectionKeeper.retire(queue)
      throw error
    }
    return (queue, isReadOnly)
  }

  /// Opens the store at `location`, making one when there is none or an empty file.
  ///
  /// - Throws: ``VMCheckpointError``; a store that could not be made is not there.
  static func openOrCreate(
    location: StoreLocation,
    busy: BusyPolicy,
    cancellation: CancellationFlag
  ) throws(VMCheckpointError) -> (queue: DatabaseQueue, isReadOnly: Bool) {
    switch NewStore.place(location) {
    case .taken: break
    case .free: try NewStore(location).commit()
    case .emptyFile:
      try location.requireTrusted()
      // Of processes that replace it together, the second would replace a store.
      let lock = try StoreLock.acquire(
        .writer,
        .exclusive,
        at: location,
        cancellation: cancellation
      )
      if NewStore.place(location) == .emptyFile {
        try NewStore(location).commit(replacingEmptyFile: true)
      }
      lock.release()
    }
    return try open(location: location, for: .writing, busy: busy, cancellation: cancellation)
  }

  // MARK: The file

  /// - Returns: Whether the file's header could be read and is that of a store.
  private static func checkFile(_ location: StoreLocation) throws(VMCheckpointError) -> Bool {
    var status = stat()
    guard stat(location.file, &status) == 0 else {
      let code = Errno(rawValue: errno)
      guard code == .noSuchFileOrDirectory || code == .notDirectory else {
        throw VMCheckpointError(
          code == .permissionDenied ? .permissionDenied : .inputOutput,
          "cannot open store \(quotedName(location.given)): \(code)"
        )
      }
      throw VMCheckpointError(
        .notFound,
        "there is no store at \(quotedName(location.given))",
        hint: "name another with --store, or create it with: vmckpt save"
      )
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw VMCheckpointError(
        .corrupt,
        "\(quotedName(location.given)) is not a vmckpt store: it is not a regular file",
        hint: "give the path of a store with --store"
      )
    }
    guard access(location.file, R_OK) == 0 else {
      throw VMCheckpointError(
        .permissionDenied,
        "no permission to read store \(quotedName(location.given))",
        hint: "run as the user who owns it"
      )
    }
    try location.requireSingleName(status)
    try location.requireTrusted()
    guard status.st_size > 0 else {
      throw VMCheckpointError(
        .corrupt,
        "\(quotedName(location.given)) is not a vmckpt store: it is empty",
        hint: "give the path of a store with --store, or create one with: vmckpt save"
      )
    }
    guard let header = DatabaseHeader(path: location.file) else { return false }
    guard header.isStore else { throw foreignDatabase(location) }
    return true
  }

  private static func foreignDatabase(_ location: StoreLocation) -> VMCheckpointError {
    VMCheckpointError(
      .corrupt,
      "\(quotedName(location.given)) is not a vmckpt store: it is another program's SQLite database",
      hint: "give the path of a store with --store"
    )
  }

  // MARK: The connection

  static func connect(
    _ location: StoreLocation,
    readOnly: Bool,
    busy: BusyPolicy
  ) throws(VMCheckpointError) -> DatabaseQueue {
    var configuration = Configuration()
    configuration.label = "vmckpt"
    configuration.readonly = readOnly
    configuration.busyMode = .callback { attempt in busy.wait(attempt: attempt) }
    configuration.prepareDatabase { database in
      // GRDB notifies its transaction observers of every commit, and stops when that is not on its
      // own queue. There are no observers here, and a save commits on a thread of its own.
      sqlite3_commit_hook(database.sqliteConnection, nil, nil)
      sqlite3_rollback_hook(database.sqliteConnection, nil, nil)
      ValueLimit.set(database)
      // Before anything reads the file: an interrupted write cannot be undone so.
      guard readOnly || sqlite3_db_readonly(database.sqliteConnection, nil) == 0 else {
        throw OpenedForReading()
      }
      try database.execute(
        sql: """
          PRAGMA cell_size_check = ON;
          PRAGMA cache_size = -\(cacheKiB);
          """
      )
      guard !readOnly else { return }
      // Rollback journal, and every commit on disk before it counts. Deleted guest memory is
      // overwritten with zeros: Debian's default, stated so that it does not depend on it. The
      // cache may not spill: a spill takes the exclusive lock in the middle of a batch and shuts
      // readers out. Batches are small enough to stay in memory.
      try database.execute(
        sql: """
          PRAGMA journal_mode = TRUNCATE;
          PRAGMA synchronous = FULL;
          PRAGMA secure_delete = ON;
          PRAGMA cache_spill = OFF;
          """
      )
    }
    func open() throws -> DatabaseQueue {
      // Dispatch, which gives the connection its queue, waits for ever where there is no memory.
      try LargeMemory.require(byteCount: memoryOfConnection)
      return try DatabaseQueue(
        path: WriteCombiningVFS.name(forPath: location.file),
        configuration: configuration
      )
    }
    return try translatingDatabaseErrors(storePath: location.given) {
      do {
        return try open()
      } catch is OpenedForReading {
        return try open()
      }
    }
  }

  /// SQLite opens a file for reading when it fails to open it for writing, for whatever reason. So one
  /// call that failed would look like a store that may not be written.
  private struct OpenedForReading: Error, CustomStringConvertible {
    let description = "it cannot be opened for writing, although nothing forbids that"
  }

  // MARK: The format

  private struct Format {
    var applicationID: Int32
    var version: Int32
    var objects: [(type: String, name: String)]
    /// The columns of `ram_extent`; none where that is missing.
    var extentColumns: [String]
    var features: [StoreFeature]

    /// What shows that a vmckpt before the first release has made it, whose tables no release reads.
    var developmentSign: String? {
      if extentColumns.isEmpty { return nil }
      if !extentColumns.contains("checksum") { return "its extents have no checksums" }
      let tables = Set(objects.map(\.name))
      guard tables.contains("feature") else { return "it has no table of features" }
      return tables.contains("verification") && !tables.contains("verification_gap")
        ? "its verifications do not say what they left out" : nil
    }
  }

  private static func readFormat(
    _ queue: DatabaseQueue,
    location: StoreLocation
  ) throws(VMCheckpointError) -> Format {
    do {
      return try translatingDatabaseErrors(storePath: location.given) {
        try queue.read { database in
          let objects = try Row.fetchAll(
            database,
            // A virtual table, which has no root page, is not a table of a store either.
            sql: """
              SELECT type, name FROM sqlite_schema
               WHERE type = 'table' AND rootpage > 0 OR type = 'trigger'
              """
          ).map { (type: try $0.value("type") as String, name: try $0.value("name") as String) }
          let hasFeatures = objects.contains { $0.type == "table" && $0.name == "feature" }
          return Format(
            applicationID: try Int32.fetchOne(database, sql: "PRAGMA application_id") ?? 0,
            version: try StoreFormat.version(of: database),
            objects: objects,
            extentColumns: try Row.fetchAll(database, sql: "PRAGMA table_info(ram_extent)")
              .map { try $0.value("name") as String },
            features: hasFeatures ? try StoreFormat.features(of: database) : []
          )
        }
      }
    } catch {
      guard error.code == .corrupt, error.hint?.contains("vmckpt verify") == true else {
        throw error
      }
      // What cannot even be opened, verify cannot examine either.
      throw VMCheckpointError(
        .corrupt,
        error.message,
        hint: "it may have been cut short: restore a backup, or see what sqlite3's .recover finds"
      )
    }
  }

  /// - Returns: The store's version, if that is an older one.
  private static func checkFormat(
    _ queue: DatabaseQueue,
    location: StoreLocation,
    _ migration: StoreMigration
  ) throws(VMCheckpointError) -> Int32? {
    let store = quotedName(location.given)
    let format = try readFormat(queue, location: location)
    let (version, objects) = (format.version, format.objects)
    guard format.applicationID == StoreFormat.applicationID else { throw foreignDatabase(location) }
    if let sign = format.developmentSign {
      throw VMCheckpointError(
        .corrupt,
        "store \(store) was made by a development version of vmckpt: \(sign)",
        hint:
          "restore its snapshots with the vmckpt that made it, and save them again with this one"
      )
    }
    guard version <= migration.newest else {
      throw StoreFormat.newerVersion(version, path: location.given, known: migration.newest)
    }
    guard version >= 1 else {
      throw VMCheckpointError(.corrupt, "store \(store) has the unknown format version \(version)")
    }
    if let feature = StoreFeature.unknown(among: format.features, toWrite: false) {
      throw StoreFormat.unknownFeature(feature, path: location.given, toWrite: false)
    }
    // A trigger would run a stranger's SQL inside our transactions.
    if let trigger = objects.first(where: { $0.type == "trigger" }) {
      throw VMCheckpointError(
        .corrupt,
        "store \(store) has a trigger, \(quotedName(trigger.name))",
        hint: "a store has none; drop it with sqlite3 if you put it there"
      )
    }
    guard version == migration.newest else { return version }
    let tables = Set(objects.map(\.name))
    let expected = StoreFormat.tables.union(format.features.flatMap(\.tables))
    if let missing = expected.subtracting(tables).min() {
      throw VMCheckpointError(.corrupt, "store \(store) is damaged: table \(missing) is missing")
    }
    return nil
  }
}
