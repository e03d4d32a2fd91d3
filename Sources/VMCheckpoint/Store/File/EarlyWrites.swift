import GRDBSQLite
import Glibc

/// What one long transaction writes into the store's file before its commit.
///
/// SQLite spills pages of a transaction that does not fit into its cache. For that it syncs the journal and shuts all
/// readers out until the end. Most of what a save writes needs neither. A page behind the last one of the database, and
/// a page that is a leaf of the list of free pages, is nothing that a reader reads or a rollback restores. So:
///
/// - SQLite's request for the exclusive lock is answered and not passed on. The reserved lock, which the transaction
///   has, keeps writers out and lets readers in.
/// - Such pages are written to the file at once.
/// - All others are held in memory, and so is the whole journal. They are few: the last pages of each b-tree.
/// - The commit's sync of the database does the rest, in SQLite's own order. See ``CombinedFile``.
///
/// A process that is killed before leaves an empty journal, and pages in the file that the database does not count.
///
/// Not thread-safe, like the connection that it belongs to.
final class EarlyWrites {
  /// Of a store's database page.
  static let pageByteCount = 4096

  /// Pages that list free ones; each has 1022. More of them than a transaction uses.
  private static let maximumTrunkCount = 80

  /// What a disk writes as a whole.
  private static let sectorByteCount = 512

  /// `SQLITE_READONLY_DBMOVED`.
  private static let databaseMoved: Int32 = SQLITE_READONLY | 4 << 8

  /// What is written early may be so much before it is worth a sync of its own, which keeps no reader waiting.
  private static let byteCountWorthSync = 32 << 20

  /// The database's size before the transaction.
  private let originalByteCount: Int64
  /// Numbers of leaves of the list of free pages before the transaction.
  private let freePages: Set<UInt32>
  /// As SQLite's busy handler: waits, and says whether to try again.
  private let awaitLock: (_ attempt: Int) -> Bool
  private let onWrite: (_ byteCount: Int) -> Void

  private var heldPages: [Int64: UnsafeMutableRawPointer] = [:]
  private var journal: UnsafeMutableRawPointer?
  private var journalCapacity = 0
  private var journalFile: UnsafeMutablePointer<sqlite3_file>?

  /// How much of the journal there is.
  private(set) var journalByteCount = 0
  /// What was written into the database's file before the commit.
  private(set) var writtenByteCount = 0
  /// Whether SQLite plays the journal back. It asks for the journal's size first, and for nothing else. The sync of the
  /// database that follows is not that of a commit.
  private var isRollingBack = false
  /// Whether pages are lost that could not be written. SQLite may not have noticed in what it does to the
  /// transaction, and so no commit may come of it any more.
  private var hasLostPages = false
  /// Whether any of the journal is in its file.
  private(set) var hasPutDownJournal = false
  /// Whether the journal is on disk and the exclusive lock is held: all goes to the files from then on.
  private(set) var isReal = false

  private init(
    originalByteCount: Int64,
    freePages: Set<UInt32>,
    awaitLock: @escaping (Int) -> Bool,
    onWrite: @escaping (Int) -> Void
  ) {
    self.originalByteCount = originalByteCount
    self.freePages = freePages
    self.awaitLock = awaitLock
    self.onWrite = onWrite
  }

  deinit {
    for page in heldPages.values { free(page) }
    free(journal)
  }

  /// What is held in memory.
  var heldByteCount: Int { heldPages.count * Self.pageByteCount + journalByteCount }

  /// The early writes of a transaction that has the reserved lock and has written nothing.
  ///
  /// - Parameter base: The database's file.
  /// - Returns: `nil` when the file's header is not what every store has.
  static func make(
    for base: UnsafeMutablePointer<sqlite3_file>,
    awaitLock: @escaping (Int) -> Bool,
    onWrite: @escaping (Int) -> Void
  ) -> EarlyWrites? {
    var page = [UInt8](repeating: 0, count: pageByteCount)
    func read(_ number: UInt32) -> Bool {
      let offset = Int64(number - 1) * Int64(pageByteCount)
      return page.withUnsafeMutableBytes {
        base.pointee.pMethods.pointee.xRead(base, $0.baseAddress, Int32(pageByteCount), offset)
          == SQLITE_OK
      }
    }
    func number(at offset: Int) -> UInt32 {
      page[offset..<(offset + 4)].reduce(0) { $0 << 8 | UInt32($1) }
    }
    // The page's size, a rollback journal for writers and readers, and a page count that counts.
    guard read(1), page[16] == 0x10, page[17] == 0, page[18] == 1, page[19] == 1,
      number(at: 24) == number(at: 92), number(at: 28) > 0
    else { return nil }
    let pageCount = number(at: 28)
    var trunk = number(at: 32)
    var (freePages, trunkCount) = (Set<UInt32>(), 0)
    while trunk > 0, trunk <= pageCount, trunkCount < maximumTrunkCount, read(trunk) {
      let leafCount = Int(number(at: 4))
      // A damaged list is SQLite's to report; nothing is written early by it.
      guard leafCount <= pageByteCount / 4 - 2 else { break }
      for leaf in 0..<leafCount {
        let leafNumber = number(at: 8 + leaf * 4)
        if leafNumber > 1, leafNumber <= pageCount { freePages.insert(leafNumber) }
      }
      trunk = number(at: 0)
      trunkCount += 1
    }
    return EarlyWrites(
      originalByteCount: Int64(pageCount) * Int64(pageByteCount),
      freePages: freePages,
      awaitLock: awaitLock,
      onWrite: onWrite
    )
  }

  // MARK: The database's pages

  /// Whether the page at `offset` must not be written before the journal is on disk.
  func mustHold(_ offset: Int64) -> Bool {
    !isReal && offset < originalByteCount
      && !freePages.contains(UInt32(offset / Int64(Self.pageByteCount)) + 1)
  }

  /// Holds a page until the commit.
  func hold(_ bytes: UnsafeRawPointer, _ byteCount: Int, _ offset: Int64) -> Int32 {
    guard byteCount == Self.pageByteCount, offset % Int64(byteCount) == 0 else {
      return SQLITE_IOERR
    }
    guard let page = heldPages[offset] ?? malloc(byteCount) else { return SQLITE_NOMEM }
    page.copyMemory(from: bytes, byteCount: byteCount)
    heldPages[offset] = page
    return SQLITE_OK
  }

  /// Copies what is held of `offset`, if it is.
  func read(_ bytes: UnsafeMutableRawPointer, _ byteCount: Int, _ offset: Int64) -> Bool {
    guard !isReal else { return false }
    let start = offset % Int64(Self.pageByteCount)
    guard let page = heldPages[offset - start], Int(start) + byteCount <= Self.pageByteCount
    else { return false }
    bytes.copyMemory(from: page + Int(start), byteCount: byteCount)
    return true
  }

  func noteWrite(_ byteCount: Int) {
    guard !isReal else { return }
    writtenByteCount += byteCount
    onWrite(byteCount)
  }

  func noteLostPages() { hasLostPages = true }

  // MARK: The journal

  func writeJournal(
    _ file: UnsafeMutablePointer<sqlite3_file>,
    _ bytes: UnsafeRawPointer,
    _ byteCount: Int,
    _ offset: Int64
  ) -> Int32 {
    journalFile = file
    let end = Int(offset) + byteCount
    if end > journalCapacity {
      let capacity = max(end, journalCapacity * 2, 64 << 10)
      guard let grown = realloc(journal, capacity) else { return SQLITE_NOMEM }
      (journal, journalCapacity) = (grown, capacity)
    }
    if Int(offset) > journalByteCount {
      memset(journal! + journalByteCount, 0, Int(offset) - journalByteCount)
    }
    (journal! + Int(offset)).copyMemory(from: bytes, byteCount: byteCount)
    journalByteCount = max(journalByteCount, end)
    return SQLITE_OK
  }

  /// The size of the journal, which only a rollback asks for.
  func journalByteCountForRollback() -> Int {
    isRollingBack = true
    return journalByteCount
  }

  /// - Returns: `SQLITE_IOERR_SHORT_READ`, with zeros for the rest, where the journal ends before.
  func readJournal(_ bytes: UnsafeMutableRawPointer, _ byteCount: Int, _ offset: Int64) -> Int32 {
    let available = max(0, min(byteCount, journalByteCount - Int(offset)))
    if available > 0 { bytes.copyMemory(from: journal! + Int(offset), byteCount: available) }
    guard available < byteCount else { return SQLITE_OK }
    memset(bytes + available, 0, byteCount - available)
    return CombinedFile.shortRead
  }

  func truncateJournal(to byteCount: Int64) {
    journalByteCount = min(journalByteCount, Int(byteCount))
  }

  // MARK: The commit

  /// What SQLite syncs the database for, which it does once in a commit and once in a rollback.
  ///
  /// A rollback has nothing to sync: what it restores was never written. A commit becomes durable but for SQLite's last
  /// step, the end of its journal. Each step is on disk before the next one begins, as SQLite has it:
  ///
  /// 1. the journal but for its first sector, without which nobody believes it
  /// 2. that sector
  /// 3. under the exclusive lock, the pages that were held, and with them what was written early
  ///
  /// Readers wait for the third only, and so most of what was written early is synced before.
  ///
  /// - Returns: SQLite's code. `SQLITE_BUSY` where readers did not let go of the store; nothing has changed then.
  func sync(
    base: UnsafeMutablePointer<sqlite3_file>,
    syncFlags: Int32,
    write: (_ bytes: UnsafeRawPointer, _ byteCount: Int, _ offset: Int64) -> Int32,
    flush: () -> Int32
  ) -> Int32 {
    if isRollingBack { return SQLITE_OK }
    if hasLostPages { return SQLITE_IOERR }
    let methods = base.pointee.pMethods.pointee
    if writtenByteCount >= Self.byteCountWorthSync {
      let code = methods.xSync(base, syncFlags)
      guard code == SQLITE_OK else { return code }
    }
    if Self.hasMoved(base) { return Self.databaseMoved }
    var code = putDownJournal(syncFlags)
    guard code == SQLITE_OK else { return code }
    var attempt = 0
    while true {
      code = methods.xLock(base, SQLITE_LOCK_EXCLUSIVE)
      if code == SQLITE_OK { break }
      guard code & 0xff == SQLITE_BUSY, awaitLock(attempt) else { return code }
      attempt += 1
    }
    // That may have taken a minute.
    if Self.hasMoved(base) { return Self.databaseMoved }
    code = journalFile.map(JournalFile.check) ?? SQLITE_OK
    guard code == SQLITE_OK else { return code }
    isReal = true
    for offset in heldPages.keys.sorted() {
      code = write(heldPages[offset]!, Self.pageByteCount, offset)
      guard code == SQLITE_OK else { return code }
    }
    code = flush()
    return code == SQLITE_OK ? methods.xSync(base, syncFlags) : code
  }

  /// Whether the database has another path now, or none: a journal at the old one would be found by nobody. SQLite asks
  /// when a transaction begins, which may be long ago.
  private static func hasMoved(_ base: UnsafeMutablePointer<sqlite3_file>) -> Bool {
    var result: Int32 = 0
    let code = base.pointee.pMethods.pointee.xFileControl(base, SQLITE_FCNTL_HAS_MOVED, &result)
    return code == SQLITE_OK && result != 0
  }

  private func putDownJournal(_ syncFlags: Int32) -> Int32 {
    guard let journal, let journalFile, journalByteCount > 0 else { return SQLITE_OK }
    var code = JournalFile.check(journalFile)
    // What a dead journal left behind the end of this one would be taken for its continuation. SQLite looks for that
    // where it believes the journal to be, which is in memory.
    hasPutDownJournal = true
    if code == SQLITE_OK { code = JournalFile.empty(journalFile) }
    guard code == SQLITE_OK else { return code }
    let sectorByteCount = min(Self.sectorByteCount, journalByteCount)
    for part in [sectorByteCount..<journalByteCount, 0..<sectorByteCount] {
      code = JournalFile.putDown(
        journalFile,
        UnsafeRawBufferPointer(start: journal + part.lowerBound, count: part.count),
        at: Int64(part.lowerBound),
        syncFlags
      )
      guard code == SQLITE_OK else { return code }
    }
    return SQLITE_OK
  }
}
