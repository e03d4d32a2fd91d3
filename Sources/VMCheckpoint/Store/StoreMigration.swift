import GRDB
import Glibc

/// What a store is opened for.
public enum StorePurpose: Sendable {
  /// A store of an older format is refused, with a word on what to do.
  case reading
  /// A store of an older format is brought up to this program's first.
  case writing
}

/// Brings a store of an older version of the format up to this program's.
///
/// All steps run in one transaction, at whose end the schema has to be that of a new store. A crash, or an
/// error, leaves the store as it was. The writer's and the chunks' locks keep other operations away from it.
/// Of processes that try it together, one does the work.
struct StoreMigration {
  private let location: StoreLocation
  private let steps: [StoreFormat.Migration]

  init(
    _ location: StoreLocation,
    _ steps: [StoreFormat.Migration] = StoreFormat.migrations
  ) {
    self.location = location
    self.steps = steps
  }

  /// The version that all steps lead to.
  var newest: Int32 { steps.last?.version ?? 0 }

  /// The error for who only reads a store of an older version.
  func isNeeded(from version: Int32) -> VMCheckpointError {
    VMCheckpointError(
      .unavailable,
      "store \(quotedName(location.given)) has format version \(version), and this vmckpt reads "
        + "version \(newest)",
      hint: "bring it up with a command that writes, such as: vmckpt gc; an older vmckpt will not "
        + "open it any more then"
    )
  }

  /// Makes a store out of an empty database that nobody else knows.
  func makeStore(_ queue: DatabaseQueue) throws {
    try queue.write { try apply($0, from: 0) }
  }

  /// Brings up the store that `queue` has open. Does nothing when another process was quicker.
  ///
  /// - Parameter writerLock: The writer's lock, if the caller has it.
  /// - Throws: ``VMCheckpointError``: `inputOutput` when the disk has too little space; `corrupt` when the
  ///   store is not one of its version; `locked`, `cancelled`. The store is as it was then.
  func run(
    _ queue: DatabaseQueue,
    writerLock: StoreLock?,
    cancellation: CancellationFlag
  ) throws(VMCheckpointError) {
    func acquire(_ resource: StoreLock.Resource) throws(VMCheckpointError) -> StoreLock {
      try StoreLock.acquire(resource, .exclusive, at: location, cancellation: cancellation)
    }
    var locks: [StoreLock] = []
    if let writerLock { locks.append(writerLock) } else { locks.append(try acquire(.writer)) }
    locks.append(try acquire(.chunks))
    defer { for lock in locks { lock.release() } }
    try requireSpace()
    try translatingDatabaseErrors(storePath: location.given) {
      // Every page of the store may change, and memory is bounded.
      try queue.inDatabase { try $0.execute(sql: "PRAGMA cache_spill = ON") }
      defer { try? queue.inDatabase { try $0.execute(sql: "PRAGMA cache_spill = OFF") } }
      try queue.inTransaction(.immediate) { database in
        let version = try StoreFormat.version(of: database)
        guard version < newest else { return .rollback }
        for lock in locks { try lock.requireInPlace() }
        try apply(database, from: version)
        if let problem = try StoreSchema.problems(database, after: steps).first {
          throw VMCheckpointError.corrupt(
            "store \(quotedName(location.given)) cannot be brought up from format version "
              + "\(version): \(problem)"
          )
        }
        return .commit
      }
    }
  }

  /// The transaction may write every page of the store anew, and keeps the old ones in the journal.
  private func requireSpace() throws(VMCheckpointError) {
    var file = stat()
    var disk = statvfs()
    guard stat(location.file, &file) == 0, statvfs(location.directory, &disk) == 0 else { return }
    let (free, overflows) = UInt64(disk.f_bavail).multipliedReportingOverflow(
      by: UInt64(disk.f_frsize)
    )
    let needed = 2 * UInt64(clamping: file.st_size)
    guard overflows || free >= needed else {
      throw VMCheckpointError(
        .inputOutput,
        "bringing store \(quotedName(location.given)) up to format version \(newest) may take "
          + "\(needed) bytes, and its file system has \(free) free",
        hint: "free some space, or move the store"
      )
    }
  }

  private func apply(_ database: Database, from version: Int32) throws {
    for step in steps where step.version > version {
      try database.execute(sql: step.sql)
      if step.version == 1 {
        try OverlayKindRows.insertVersion1(database)
        try database.execute(
          sql: """
            INSERT INTO store (id, uuid, created_at, created_by, fingerprint_seed)
            VALUES (1, ?, ?, ?, ?)
            """,
          arguments: [
            UniqueID.make(), UTCTime.now, VMCheckpointVersion.producer,
            Int64.random(in: .min ... .max),
          ]
        )
      }
    }
    try database.execute(
      sql: """
        PRAGMA application_id = \(StoreFormat.applicationID);
        PRAGMA user_version = \(newest);
        """
    )
  }
}
