import GRDBSQLite

/// A store's journal, as SQLite's own VFS has it, but that it may use the space that the store has kept. SQLite's memory
/// has, one behind the other, what SQLite knows of the file, the journal's path, and the base VFS's own file.
struct JournalFile {
  /// SQLite's part; must be the first.
  private var file: sqlite3_file
  /// SQLite's, for as long as the file is open.
  private var path: UnsafePointer<CChar>?

  /// What comes before the base's file, which needs the alignment of a pointer.
  static let byteCount = (MemoryLayout<JournalFile>.size + 15) & ~15

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
    UnsafeMutableRawPointer(file).initializeMemory(
      as: JournalFile.self,
      to: JournalFile(file: sqlite3_file(pMethods: methods), path: path)
    )
  }

  private static func storeFile(_ file: Handle) -> String? {
    let state = UnsafeMutableRawPointer(file).assumingMemoryBound(to: JournalFile.self)
    let path = state.pointee.path.map { String(cString: $0) }
    return path.flatMap { $0.hasSuffix("-journal") ? String($0.dropLast(8)) : nil }
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
      JournalFile.forward(file) { $1.xRead($0, bytes, count, offset) }
    }
    methods.xWrite = { file, bytes, count, offset in
      BaseFile.write(JournalFile.base(of: file!), bytes!, count, offset) {
        JournalFile.storeFile(file!)
      }
    }
    methods.xTruncate = { file, size in JournalFile.forward(file) { $1.xTruncate($0, size) } }
    methods.xSync = { file, flags in JournalFile.forward(file) { $1.xSync($0, flags) } }
    methods.xFileSize = { file, size in JournalFile.forward(file) { $1.xFileSize($0, size) } }
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
