import GRDBSQLite
import Glibc

/// How ``WriteCombiningVFS`` writes to files of SQLite's own VFS.
enum BaseFile {
  /// Writes bytes. Where the disk is full, or the user's quota, and the store has kept space for what is under way, gives
  /// that up and goes on.
  ///
  /// - Parameters:
  ///   - base: The base VFS's file.
  ///   - storeFile: The path of the store that it belongs to.
  /// - Returns: SQLite's code. It is `SQLITE_FULL` for an exhausted quota too, which SQLite calls a failed write.
  static func write(
    _ base: UnsafeMutablePointer<sqlite3_file>,
    _ bytes: UnsafeRawPointer,
    _ byteCount: Int32,
    _ offset: Int64,
    storeFile: () -> String?
  ) -> Int32 {
    let write = base.pointee.pMethods.pointee.xWrite!
    var code = write(base, bytes, byteCount, offset)
    while code != SQLITE_OK {
      guard isFull(base, code) else { return code }
      guard let file = storeFile(), StoreReserve.giveUp(of: file) else { return SQLITE_FULL }
      code = write(base, bytes, byteCount, offset)
    }
    return code
  }

  private static func isFull(_ base: UnsafeMutablePointer<sqlite3_file>, _ code: Int32) -> Bool {
    guard code != SQLITE_FULL else { return true }
    var cause: Int32 = 0
    let control = base.pointee.pMethods.pointee.xFileControl!
    return code & 0xff == SQLITE_IOERR
      && control(base, SQLITE_FCNTL_LAST_ERRNO, &cause) == SQLITE_OK && cause == EDQUOT
  }
}
