import GRDB
import GRDBSQLite
import Glibc
import SystemPackage

/// Copies a store's file page by page, with SQLite's backup interface.
///
/// SQLite reads some pages at a time under its shared lock, so that writers' commits wait for milliseconds.
/// A commit in between makes the next step begin anew. Saves commit all the time: when that has happened
/// once, the copy takes the writer's lock, and saves wait for the copy. Small writers, such as a page
/// server that renews its lease, do not take that lock. If they keep it from ending, the rest is one step.
/// Source: SQLite, "SQLite Backup API" and `sqlite3_backup_step`.
struct StoreCopy {
  /// 16 MiB: milliseconds from memory, and a tenth of a second from a slow disk.
  private static let pagesPerStep: CInt = 4096
  /// So often a copy begins anew under the writer's lock before it keeps all writers out.
  private static let maximumRestartCount = 3

  private let store: Store
  private let control: OperationControl

  init(of store: Store, control: OperationControl) {
    self.store = store
    self.control = control
  }

  /// Writes the copy, and puts it on disk.
  ///
  /// - Parameter place: An empty file.
  /// - Throws: ``VMCheckpointError``; the file holds anything then.
  func write(to place: StoreLocation) throws(VMCheckpointError) {
    var writerLock: StoreLock?
    var restartCount = 0
    while try !copy(to: place, inOneStep: restartCount > Self.maximumRestartCount) {
      restartCount += 1
      guard writerLock == nil else { continue }
      writerLock = try StoreLock.acquire(
        .writer,
        .exclusive,
        at: store.location,
        cancellation: control.cancellation
      )
    }
    writerLock?.release()
    try sync(place)
  }

  private struct HasBegunAnew: Error {}

  /// - Returns: `false` when somebody has committed meanwhile; the file holds anything then.
  private func copy(
    to place: StoreLocation,
    inOneStep: Bool
  ) throws(VMCheckpointError) -> Bool {
    try translatingDatabaseErrors(storePath: store.path) {
      let target = try connect(to: place)
      defer { ConnectionKeeper.retire(target) }
      var isWhole = true
      try store.withConnection(control: control) { source in
        try target.writeWithoutTransaction { target in
          do {
            try copy(source, to: target, inOneStep: inOneStep)
            try LeaseTable(target, place).removeAll()
          } catch is HasBegunAnew {
            isWhole = false
          } catch let error as DatabaseError where error.resultCode == .SQLITE_FULL {
            // The store's own disk is not the full one.
            throw cannotWrite(place, .noSpace)
          }
        }
      }
      try target.close()
      return isWhole
    }
  }

  private func connect(to place: StoreLocation) throws -> DatabaseQueue {
    // What is left of an attempt has no journal, and is not a database.
    guard truncate(place.file, 0) == 0 else { throw cannotWrite(place, Errno(rawValue: errno)) }
    // Dispatch, which gives the connection its queue, waits for ever where there is no memory.
    try LargeMemory.require(byteCount: 1 << 20)
    var configuration = Configuration()
    configuration.label = "vmckpt copy"
    configuration.prepareDatabase { database in
      // Nobody else knows the file, and it is dropped after a crash.
      try database.execute(
        sql: "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -4096;"
      )
    }
    return try DatabaseQueue(path: place.file, configuration: configuration)
  }

  private func copy(_ source: Database, to target: Database, inOneStep: Bool) throws {
    var progress = ProgressReporter(control, phase: "copying", totalByteCount: fileByteCount)
    var remainingPageCount = Int.max
    try source.backup(to: target, pagesPerStep: inOneStep ? -1 : Self.pagesPerStep) { done in
      try control.cancellation.check()
      guard done.remainingPageCount < remainingPageCount || done.isCompleted
      else { throw HasBegunAnew() }
      remainingPageCount = done.remainingPageCount
      progress.report(
        completedByteCount: UInt64(done.completedPageCount * StoreFormat.databasePageByteCount)
      )
    }
  }

  private var fileByteCount: UInt64 {
    var status = stat()
    return stat(store.location.file, &status) == 0 ? UInt64(max(0, status.st_size)) : 0
  }

  private func sync(_ place: StoreLocation) throws(VMCheckpointError) {
    do {
      let file = try FileDescriptor.open(FilePath(place.file), .readWrite, options: .closeOnExec)
      defer { try? file.close() }
      guard fsync(file.rawValue) == 0 else { throw Errno(rawValue: errno) }
    } catch {
      throw cannotWrite(place, error as? Errno ?? .ioError)
    }
  }

  private func cannotWrite(_ place: StoreLocation, _ error: Errno) -> VMCheckpointError {
    VMCheckpointError(
      .inputOutput,
      "cannot write the copy \(quotedName(place.given)) to disk: \(error)",
      hint: error == .noSpace ? "free some space, or choose another path" : nil
    )
  }
}
