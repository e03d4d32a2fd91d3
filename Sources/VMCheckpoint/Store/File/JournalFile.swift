import GRDBSQLite
import Glibc

/// A store's journal, as SQLite's own VFS has it, but that it may use the space that the store has kept. SQLite's memory
/// has, one behind the other, what SQLite knows of the file, the journal's path, and the base VFS's own file.
struct JournalFile {
  /// SQLite's part; must be the first.
  private var file: sqlite3_file
  /// SQLite's, for as long as the file is open.
  private var path: UnsafePointer<CChar>?
  /// The database's, for as long as the file is open.
  private var database: UnsafeMutablePointer<sqlite3_file>?
  /// Which file had the path when it was opened.
  private var inode: ino_t = 0

  /// What comes before the base's file, which needs the alignment of a pointer.
  static let byteCount = (MemoryLayout<JournalFile>.size + 15) & ~15

  /// SQLite's own VFS takes no more than 128 KiB in one call, and calls the disk full then.
  private static let pieceByteCount = 64 << 10

  // Nothing writes to it.
  private nonisolated(unsafe) static let methods: UnsafePointer<sqlite3_io_methods> = {
    let methods = UnsafeMutablePointer<sqlite3_io_methods>.allocate(capacity: 1)
    methods.initialize(to: makeMethods())
    return UnsafePointer(methods)
  }()

  private typealias Handle = UnsafeMutablePointer<sqlite3_file>

  /// The base's file behind that of SQLite.
  static func base(
    of file: UnsafeMutablePointer<sqlite3_file>
  ) -> UnsafeMutablePointer<sqlite3_file> {
    (UnsafeMutableRawPointer(file) + byteCount).assumingMemoryBound(to: sqlite3_file.self)
  }

  /// Takes `file` into use, whose base is open.
  static func begin(_ file: UnsafeMutablePointer<sqlite3_file>, path: UnsafePointer<CChar>?) {
    var status = stat()
    if let path { lstat(path, &status) }
    UnsafeMutableRawPointer(file).initializeMemory(
      as: JournalFile.self,
      to: JournalFile(
        file: sqlite3_file(pMethods: methods),
        path: path,
        database: path.flatMap(sqlite3_database_file_object),
        inode: status.st_ino
      )
    )
  }

  private static func storeFile(_ file: Handle) -> String? {
    let state = UnsafeMutableRawPointer(file).assumingMemoryBound(to: JournalFile.self)
    let path = state.pointee.path.map { String(cString: $0) }
    return path.flatMap { $0.hasSuffix("-journal") ? String($0.dropLast(8)) : nil }
  }

  /// Whether the file is still what others find by its path, and to be believed; a long time may have gone by since it was
  /// opened.
  ///
  /// - Returns: SQLite's code: `SQLITE_PERM` for somebody else's file.
  static func check(_ file: UnsafeMutablePointer<sqlite3_file>) -> Int32 {
    let state = UnsafeMutableRawPointer(file).assumingMemoryBound(to: JournalFile.self)
    guard let path = state.pointee.path else { return SQLITE_IOERR }
    if WriteCombiningVFS.isPlanted(String(cString: path)) { return SQLITE_PERM }
    var status = stat()
    let isInPlace = lstat(path, &status) == 0 && status.st_ino == state.pointee.inode
    return isInPlace ? SQLITE_OK : SQLITE_IOERR
  }

  /// Cuts the file to nothing.
  static func empty(_ file: UnsafeMutablePointer<sqlite3_file>) -> Int32 {
    forward(file) { $1.xTruncate($0, 0) }
  }

  /// Writes bytes of a journal that was in memory to disk.
  static func putDown(
    _ file: UnsafeMutablePointer<sqlite3_file>,
    _ bytes: UnsafeRawBufferPointer,
    at offset: Int64,
    _ syncFlags: Int32
  ) -> Int32 {
    guard let start = bytes.baseAddress, !bytes.isEmpty else { return SQLITE_OK }
    for position in stride(from: 0, to: bytes.count, by: pieceByteCount) {
      let byteCount = min(pieceByteCount, bytes.count - position)
      let code = BaseFile.write(
        base(of: file),
        start + position,
        Int32(byteCount),
        offset + Int64(position)
      ) {
        storeFile(file)
      }
      guard code == SQLITE_OK else { return code }
    }
    return forward(file) { $1.xSync($0, syncFlags) }
  }

  /// What has the journal in memory, if anything does.
  private static func early(_ file: Handle?) -> EarlyWrites? {
    let state = UnsafeMutableRawPointer(file!).assumingMemoryBound(to: JournalFile.self)
    return CombinedFile.earlyJournal(of: state.pointee.database)
  }

  /// Calls the base's method.
  private static func forward(
    _ file: Handle?,
    _ body: (Handle, sqlite3_io_methods) -> Int32
  ) -> Int32 {
    let base = base(of: file!)
    return body(base, base.pointee.pMethods.pointee)
  }

  /// Without shared memory and mapping, which a journal does not have.
  private static func makeMethods() -> sqlite3_io_methods {
    var methods = sqlite3_io_methods()
    methods.iVersion = 1
    methods.xClose = { file in JournalFile.forward(file) { $1.xClose($0) } }
    methods.xRead = { file, bytes, count, offset in
      if let early = JournalFile.early(file) {
        return early.readJournal(bytes!, Int(count), offset)
      }
      return JournalFile.forward(file) { $1.xRead($0, bytes, count, offset) }
    }
    methods.xWrite = { file, bytes, count, offset in
      if let early = JournalFile.early(file) {
        return early.writeJournal(file!, bytes!, Int(count), offset)
      }
      return BaseFile.write(JournalFile.base(of: file!), bytes!, count, offset) {
        JournalFile.storeFile(file!)
      }
    }
    methods.xTruncate = { file, size in
      JournalFile.early(file)?.truncateJournal(to: size)
      return JournalFile.forward(file) { $1.xTruncate($0, size) }
    }
    methods.xSync = { file, flags in
      // One that was put down for a commit that failed is cut, and must not come back after a power failure.
      if let early = JournalFile.early(file), !early.hasPutDownJournal { return SQLITE_OK }
      return JournalFile.forward(file) { $1.xSync($0, flags) }
    }
    methods.xFileSize = { file, size in
      if let early = JournalFile.early(file) {
        size!.pointee = Int64(early.journalByteCountForRollback())
        return SQLITE_OK
      }
      return JournalFile.forward(file) { $1.xFileSize($0, size) }
    }
    methods.xLock = { file, level in JournalFile.forward(file) { $1.xLock($0, level) } }
    methods.xUnlock = { file, level in JournalFile.forward(file) { $1.xUnlock($0, level) } }
    methods.xCheckReservedLock = { file, result in
      JournalFile.forward(file) { $1.xCheckReservedLock($0, result) }
    }
    methods.xFileControl = { file, operation, argument in
      JournalFile.forward(file) { $1.xFileControl($0, operation, argument) }
    }
    methods.xSectorSize = { file in JournalFile.forward(file) { $1.xSectorSize($0) } }
    methods.xDeviceCharacteristics = { file in
      JournalFile.forward(file) { $1.xDeviceCharacteristics($0) }
    }
    return methods
  }
}
