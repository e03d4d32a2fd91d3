import GRDB

/// The transactions of a save: few, because each is synced to disk (``LongTransaction``).
///
/// A commit waits for the disk, so another thread makes it while the save goes on with what needs no
/// database. The connection belongs to that thread from ``startCommit()`` until the exchange has
/// reported that the commit is made.
struct SaveBatch {
  /// Rows other than chunks cost about this much.
  private static let byteCountOfRow = 64

  private let database: Database
  private let exchange: SaveExchange
  private let transaction: LongTransaction
  private let clock: StageClock<SaveStage>
  /// Of the chunks that the open transaction has.
  private(set) var chunkByteCount = 0
  private var rowByteCount = 0
  /// Whether a commit was started that was not waited for.
  private(set) var mayBeCommitting = false

  /// - Parameter transaction: May be open.
  init(
    _ database: Database,
    transaction: LongTransaction,
    exchange: SaveExchange,
    clock: StageClock<SaveStage>
  ) {
    self.clock = clock
    self.database = database
    self.exchange = exchange
    self.transaction = transaction
  }

  /// Begins a transaction if none is open; call before writing. Waits for a commit under way.
  mutating func beginIfNeeded() throws {
    try awaitCommit()
    if !database.isInsideTransaction { try transaction.begin() }
  }

  /// Whether a transaction is open that nobody commits yet.
  var isOpen: Bool { !mayBeCommitting && database.isInsideTransaction }

  /// Waits for a commit under way; the database may be used then.
  mutating func awaitCommit() throws {
    guard mayBeCommitting else { return }
    try exchange.awaitCommit()
    mayBeCommitting = false
  }

  mutating func add(chunkByteCount: Int) { self.chunkByteCount += chunkByteCount }
  mutating func add(rowCount: Int) { rowByteCount += rowCount * Self.byteCountOfRow }

  var isFull: Bool { transaction.isFull(byteCount: chunkByteCount + rowByteCount) }

  /// Lets the exchange's thread commit what is open. An error comes from the exchange later.
  mutating func startCommit() throws {
    let chunkByteCount = chunkByteCount
    (self.chunkByteCount, rowByteCount) = (0, 0)
    guard database.isInsideTransaction else { return }
    mayBeCommitting = true
    try exchange.startCommit { [transaction, clock] in
      try clock.measure(.sync, byteCount: chunkByteCount) { try transaction.commit() }
    }
  }
}
