import GRDBSQLite
import Glibc

/// A database's file whose writes ``WriteCombiningVFS`` combines. SQLite's memory has, one behind the
/// other, what SQLite knows of the file, what is held, and the base VFS's own file.
struct CombinedFile {
  /// What is held at most. Folios are aligned to their size, and so are the ends of what is written.
  private static let capacity = 64 << 10

  /// `SQLITE_IOERR_CORRUPTFS`: what the base calls EIO on reading.
  private static let corruptFileSystem: Int32 = SQLITE_IOERR | 33 << 8
  /// `SQLITE_IOERR_READ`.
  private static let readFailure: Int32 = SQLITE_IOERR | 1 << 8
  /// `SQLITE_IOERR_SHORT_READ`: the file ends before the page does.
  static let shortRead: Int32 = SQLITE_IOERR | 2 << 8

  /// SQLite's part; must be the first.
  private var file: sqlite3_file
  private var held: UnsafeMutableRawPointer?
  private var heldOffset: Int64 = 0
  private var heldByteCount = 0
  private var failedReadCount = 0
  /// SQLite's, for as long as the file is open.
  private var path: UnsafePointer<CChar>?
  /// Those of the transaction that is open, if it is a long one.
  private var early: Unmanaged<EarlyWrites>?

  /// What comes before the base's file, which needs the alignment of a pointer.
  static let byteCount = (MemoryLayout<CombinedFile>.size + 15) & ~15

  // Nothing writes to it.
  private nonisolated(unsafe) static let methods: UnsafePointer<sqlite3_io_methods> = {
    let methods = UnsafeMutablePointer<sqlite3_io_methods>.allocate(capacity: 1)
    methods.initialize(to: makeMethods())
    return UnsafePointer(methods)
  }()

  /// The base's file behind that of SQLite.
  static func base(
    of file: UnsafeMutablePointer<sqlite3_file>
  ) -> UnsafeMutablePointer<sqlite3_file> {
    (UnsafeMutableRawPointer(file) + byteCount).assumingMemoryBound(to: sqlite3_file.self)
  }

  /// Takes `file` into use, whose base is open.
  static func begin(_ file: UnsafeMutablePointer<sqlite3_file>, path: UnsafePointer<CChar>?) {
    UnsafeMutableRawPointer(file).initializeMemory(
      as: CombinedFile.self,
      to: CombinedFile(file: sqlite3_file(pMethods: methods), held: nil, path: path, early: nil)
    )
  }

  /// How many reads of the database on `connection` the device has failed; 0 when another VFS opened it.
  static func failedReadCount(on connection: OpaquePointer?) -> Int {
    guard let file = mainFile(of: connection) else { return 0 }
    return state(file).pointee.failedReadCount
  }

  // MARK: Long transactions

  /// Lets the transaction that is open on `connection`, which has written nothing yet, write early. It ends with the
  /// transaction.
  ///
  /// - Parameters:
  ///   - awaitLock: As SQLite's busy handler; called within the commit.
  ///   - onWrite: Called with the number of bytes whenever something was written early.
  /// - Returns: `nil` when that cannot be done with this database.
  static func beginEarlyWrites(
    on connection: OpaquePointer?,
    awaitLock: @escaping (_ attempt: Int) -> Bool,
    onWrite: @escaping (_ byteCount: Int) -> Void
  ) -> EarlyWrites? {
    guard let file = mainFile(of: connection),
      let early = EarlyWrites.make(for: base(of: file), awaitLock: awaitLock, onWrite: onWrite)
    else { return nil }
    endEarlyWrites(file)
    state(file).pointee.early = Unmanaged.passRetained(early)
    return early
  }

  /// Cuts off what a killed process has written early: bytes that the database does not count. Call within an exclusive
  /// transaction that has written nothing.
  ///
  /// - Parameter pageCount: The database's.
  /// - Returns: SQLite's code.
  static func cut(on connection: OpaquePointer?, toPageCount pageCount: Int64) -> Int32 {
    guard let file = mainFile(of: connection), isLonger(on: connection, thanPageCount: pageCount)
    else { return SQLITE_OK }
    return forward(file) { $1.xTruncate($0, pageCount * Int64(EarlyWrites.pageByteCount)) }
  }

  /// Whether the file goes on behind so many pages.
  static func isLonger(on connection: OpaquePointer?, thanPageCount pageCount: Int64) -> Bool {
    guard let file = mainFile(of: connection) else { return false }
    var byteCount: Int64 = 0
    return forward(file) { $1.xFileSize($0, &byteCount) } == SQLITE_OK && pageCount > 0
      && byteCount > pageCount * Int64(EarlyWrites.pageByteCount)
  }

  /// The early writes of the database's `file` for as long as its journal is in memory.
  static func earlyJournal(of file: UnsafeMutablePointer<sqlite3_file>?) -> EarlyWrites? {
    guard let file, file.pointee.pMethods == methods, let early = early(file), !early.isReal else {
      return nil
    }
    return early
  }

  private static func early(_ file: Handle) -> EarlyWrites? {
    state(file).pointee.early?.takeUnretainedValue()
  }

  private static func endEarlyWrites(_ file: Handle) {
    state(file).pointee.early?.release()
    state(file).pointee.early = nil
  }

  private static func sync(_ file: Handle, _ flags: Int32) -> Int32 {
    guard let early = early(file), !early.isReal else {
      return afterFlush(file) { $1.xSync($0, flags) }
    }
    let code = flush(file)
    guard code == SQLITE_OK else { return code }
    return early.sync(base: base(of: file), syncFlags: flags) {
      write(file, $0, $1, $2)
    } flush: {
      flush(file)
    }
  }

  private static func mainFile(of connection: OpaquePointer?) -> Handle? {
    var file: UnsafeMutablePointer<sqlite3_file>?
    guard
      sqlite3_file_control(connection, "main", SQLITE_FCNTL_FILE_POINTER, &file) == SQLITE_OK,
      let file, file.pointee.pMethods == methods
    else { return nil }
    return file
  }

  private typealias Handle = UnsafeMutablePointer<sqlite3_file>

  private static func state(_ file: Handle) -> UnsafeMutablePointer<CombinedFile> {
    UnsafeMutableRawPointer(file).assumingMemoryBound(to: CombinedFile.self)
  }

  // MARK: Writing

  /// Holds the bytes if they follow what is held; else writes that first.
  private static func write(
    _ file: Handle,
    _ bytes: UnsafeRawPointer,
    _ byteCount: Int,
    _ offset: Int64
  ) -> Int32 {
    let state = state(file)
    if state.pointee.heldByteCount > 0,
      state.pointee.heldOffset + Int64(state.pointee.heldByteCount) != offset
        || state.pointee.heldByteCount + byteCount > capacity
    {
      let code = flush(file)
      guard code == SQLITE_OK else { return code }
    }
    guard byteCount <= capacity else { return writeToBase(file, bytes, byteCount, offset) }
    // Without memory to hold anything in, nothing is held.
    guard let held = state.pointee.held ?? malloc(capacity) else {
      return writeToBase(file, bytes, byteCount, offset)
    }
    state.pointee.held = held
    if state.pointee.heldByteCount == 0 { state.pointee.heldOffset = offset }
    (held + state.pointee.heldByteCount).copyMemory(from: bytes, byteCount: byteCount)
    state.pointee.heldByteCount += byteCount
    return (offset + Int64(byteCount)) % Int64(capacity) == 0 ? flush(file) : SQLITE_OK
  }

  /// Writes what is held. After an error it is gone: SQLite rolls back then.
  private static func flush(_ file: Handle) -> Int32 {
    let state = state(file)
    let byteCount = state.pointee.heldByteCount
    guard byteCount > 0, let held = state.pointee.held else { return SQLITE_OK }
    state.pointee.heldByteCount = 0
    let code = writeToBase(file, held, byteCount, state.pointee.heldOffset)
    if code != SQLITE_OK { early(file)?.noteLostPages() }
    return code
  }

  private static func writeToBase(
    _ file: Handle,
    _ bytes: UnsafeRawPointer,
    _ byteCount: Int,
    _ offset: Int64
  ) -> Int32 {
    BaseFile.write(base(of: file), bytes, Int32(byteCount), offset) {
      state(file).pointee.path.map { String(cString: $0) }
    }
  }

  /// Calls the base's method when all is written.
  private static func afterFlush(
    _ file: Handle?,
    _ body: (Handle, sqlite3_io_methods) -> Int32
  ) -> Int32 {
    let code = flush(file!)
    guard code == SQLITE_OK else { return code }
    return forward(file, body)
  }

  /// Calls the base's method, which does not know what is held.
  private static func forward<Result>(
    _ file: Handle?,
    _ body: (Handle, sqlite3_io_methods) -> Result
  ) -> Result {
    let base = base(of: file!)
    return body(base, base.pointee.pMethods.pointee)
  }

  private static func close(_ file: Handle) -> Int32 {
    let flushed = flush(file)
    endEarlyWrites(file)
    free(state(file).pointee.held)
    state(file).pointee.held = nil
    let closed = forward(file) { $1.xClose($0) }
    return flushed == SQLITE_OK ? closed : flushed
  }

  // MARK: What SQLite calls

  /// Without memory mapping, which would show what the file has and not what is held. With shared
  /// memory, because a store that somebody has put into WAL mode must be opened to be taken out of it.
  private static func makeMethods() -> sqlite3_io_methods {
    var methods = sqlite3_io_methods()
    methods.iVersion = 2
    methods.xClose = { CombinedFile.close($0!) }
    methods.xWrite = { file, bytes, count, offset in
      if let early = CombinedFile.early(file!) {
        if early.mustHold(offset) { return early.hold(bytes!, Int(count), offset) }
        early.noteWrite(Int(count))
      }
      return CombinedFile.write(file!, bytes!, Int(count), offset)
    }
    methods.xRead = { file, bytes, count, offset in
      if let early = CombinedFile.early(file!), early.read(bytes!, Int(count), offset) {
        return SQLITE_OK
      }
      let code = CombinedFile.afterFlush(file) { $1.xRead($0, bytes, count, offset) }
      if code != SQLITE_OK, code != CombinedFile.shortRead {
        CombinedFile.state(file!).pointee.failedReadCount += 1
      }
      // SQLite would call the database malformed: a device that fails once has damaged nothing.
      return code == CombinedFile.corruptFileSystem ? CombinedFile.readFailure : code
    }
    methods.xTruncate = { file, size in
      // A reader that is in has taken the file's size for the database's, and may write by it later. Whoever cuts the file
      // must keep readers out.
      if CombinedFile.earlyJournal(of: file) != nil { return SQLITE_OK }
      return CombinedFile.afterFlush(file) { $1.xTruncate($0, size) }
    }
    methods.xSync = { file, flags in CombinedFile.sync(file!, flags) }
    methods.xFileSize = { file, size in CombinedFile.afterFlush(file) { $1.xFileSize($0, size) } }
    methods.xLock = { file, level in
      // The commit takes it in earnest.
      if level == SQLITE_LOCK_EXCLUSIVE, CombinedFile.earlyJournal(of: file) != nil {
        return SQLITE_OK
      }
      return CombinedFile.afterFlush(file) { $1.xLock($0, level) }
    }
    methods.xUnlock = { file, level in CombinedFile.unlock(file!, level) }
    methods.xCheckReservedLock = { file, result in
      CombinedFile.forward(file) { $1.xCheckReservedLock($0, result) }
    }
    methods.xFileControl = { file, operation, argument in
      // A hint of the size comes between the writes of a commit, and does not concern them.
      operation == SQLITE_FCNTL_SIZE_HINT
        ? CombinedFile.forward(file) { $1.xFileControl($0, operation, argument) }
        : CombinedFile.afterFlush(file) { $1.xFileControl($0, operation, argument) }
    }
    methods.xSectorSize = { file in CombinedFile.forward(file) { $1.xSectorSize($0) } }
    methods.xDeviceCharacteristics = { file in
      CombinedFile.forward(file) { $1.xDeviceCharacteristics($0) }
    }
    methods.xShmMap = { file, region, size, extends, memory in
      CombinedFile.forward(file) { $1.xShmMap($0, region, size, extends, memory) }
    }
    methods.xShmLock = { file, offset, count, flags in
      CombinedFile.forward(file) { $1.xShmLock($0, offset, count, flags) }
    }
    methods.xShmBarrier = { file in CombinedFile.forward(file) { $1.xShmBarrier($0) } }
    methods.xShmUnmap = { file, deletes in
      CombinedFile.forward(file) { $1.xShmUnmap($0, deletes) }
    }
    return methods
  }

  /// Others must find what was written; the lock goes even when that fails.
  private static func unlock(_ file: Handle, _ level: Int32) -> Int32 {
    let flushed = flush(file)
    if level <= SQLITE_LOCK_SHARED { endEarlyWrites(file) }
    let unlocked = forward(file) { $1.xUnlock($0, level) }
    return flushed == SQLITE_OK ? unlocked : flushed
  }
}
