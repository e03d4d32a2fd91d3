import GRDB

/// Many statements that read, one after another, in one transaction: each by itself would take SQLite's locks, and look at
/// the file's header and for a journal.
extension Database {
  /// Begins a transaction that reads, unless there is one. Keep it short: a writer's commit waits for it.
  func beginReading() throws {
    if !isInsideTransaction { try beginTransaction(.deferred) }
  }

  /// Ends the transaction that ``beginReading()`` began, if there is one.
  func endReading() throws {
    if isInsideTransaction { try commit() }
  }
}
