import GRDBSQLite
import Glibc

/// SQLite's own VFS, but that a store's pages reach the kernel 16 at a time.
///
/// A commit writes its pages one by one, thousands of 4 KiB in a row. For each the kernel finds, charges
/// and maps a page of its cache. Of 64 KiB at once it makes one large folio where the file system can.
/// That takes half of the time, and so does the sync that follows. (Of 1 MiB at once it takes longer.)
///
/// Only the main database's writes are held back, and never for long: every call that could show the
/// difference comes after them. A read, a size, a truncation, a sync, the release of a lock or the file's
/// end writes what is held first. An error of a write that was held back is that of the call that wrote
/// it. It comes before the commit counts: SQLite syncs the database before it gives up the journal. A
/// process that is killed loses what it holds, as if it had been killed a little earlier.
package enum WriteCombiningVFS {
  /// The URI that opens the database at `path` with it, or `path` itself where SQLite knows no URIs.
  package static func name(forPath path: String) -> String {
    guard isRegistered else { return path }
    var uri = "file:"
    for byte in path.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "/"), UInt8(ascii: "."),
        UInt8(ascii: "-"), UInt8(ascii: "_"):
        uri.unicodeScalars.append(Unicode.Scalar(byte))
      default:
        let digits = String(byte, radix: 16)
        uri += (byte < 16 ? "%0" : "%") + digits
      }
    }
    return uri + "?vfs=" + vfsName
  }

  private static let vfsName = "vmckpt-write-combining"

  /// SQLite keeps the pointers for as long as the process lives. Debian's SQLite knows URIs always.
  private static let isRegistered: Bool = {
    guard sqlite3_compileoption_used("USE_URI") == 1, let base = sqlite3_vfs_find(nil),
      let open = base.pointee.xOpen
    else { return false }
    let vfs = UnsafeMutablePointer<sqlite3_vfs>.allocate(capacity: 1)
    // All but xOpen are the base's functions; they find its data in their own field of the copy.
    vfs.initialize(to: base.pointee)
    vfs.pointee.pNext = nil
    vfs.pointee.zName = UnsafePointer(strdup(vfsName))
    vfs.pointee.szOsFile += Int32(max(CombinedFile.byteCount, JournalFile.byteCount))
    vfs.pointee.xOpen = { _, name, file, flags, outFlags in
      WriteCombiningVFS.open(name, file, flags, outFlags)
    }
    baseVFS = base
    baseOpen = open
    return sqlite3_vfs_register(vfs, 0) == SQLITE_OK
  }()

  // Set once, before the VFS is registered.
  private nonisolated(unsafe) static var baseVFS: UnsafeMutablePointer<sqlite3_vfs>?
  private nonisolated(unsafe) static var baseOpen:
    (
      @convention(c) (
        UnsafeMutablePointer<sqlite3_vfs>?, UnsafePointer<CChar>?,
        UnsafeMutablePointer<sqlite3_file>?, Int32, UnsafeMutablePointer<Int32>?
      ) -> Int32
    )?

  private static func open(
    _ name: UnsafePointer<CChar>?,
    _ file: UnsafeMutablePointer<sqlite3_file>?,
    _ flags: Int32,
    _ outFlags: UnsafeMutablePointer<Int32>?
  ) -> Int32 {
    guard let file, let baseOpen else { return SQLITE_CANTOPEN }
    guard flags & SQLITE_OPEN_MAIN_DB != 0 else {
      guard flags & SQLITE_OPEN_MAIN_JOURNAL != 0 else {
        return openOther(name, file, flags, outFlags)
      }
      return openJournal(name, file, flags, outFlags)
    }
    file.pointee.pMethods = nil
    let base = CombinedFile.base(of: file)
    base.pointee.pMethods = nil
    let code = baseOpen(baseVFS, name, base, flags, outFlags)
    guard code == SQLITE_OK, base.pointee.pMethods != nil else {
      // SQLite closes a file whose methods are set, even after an error.
      if base.pointee.pMethods != nil { _ = base.pointee.pMethods.pointee.xClose(base) }
      return code
    }
    CombinedFile.begin(file, path: name)
    return SQLITE_OK
  }

  /// Temporary files and logs, which are the base's own, in the same memory.
  private static func openOther(
    _ name: UnsafePointer<CChar>?,
    _ file: UnsafeMutablePointer<sqlite3_file>,
    _ flags: Int32,
    _ outFlags: UnsafeMutablePointer<Int32>?
  ) -> Int32 {
    guard let baseOpen else { return SQLITE_CANTOPEN }
    let path = flags & SQLITE_OPEN_WAL != 0 ? name.map { String(cString: $0) } : nil
    if let path, isPlanted(path) { return SQLITE_PERM }
    let code = baseOpen(baseVFS, name, file, flags, outFlags)
    guard code == SQLITE_OK, let path, isPlanted(path) else { return code }
    if file.pointee.pMethods != nil { _ = file.pointee.pMethods.pointee.xClose(file) }
    file.pointee.pMethods = nil
    return SQLITE_PERM
  }

  private static func openJournal(
    _ name: UnsafePointer<CChar>?,
    _ file: UnsafeMutablePointer<sqlite3_file>,
    _ flags: Int32,
    _ outFlags: UnsafeMutablePointer<Int32>?
  ) -> Int32 {
    guard let baseOpen else { return SQLITE_CANTOPEN }
    let path = name.map { String(cString: $0) }
    file.pointee.pMethods = nil
    // Before as well: as root, SQLite gives a journal that it opens to the store's owner.
    if let path, isPlanted(path) { return SQLITE_PERM }
    let base = JournalFile.base(of: file)
    base.pointee.pMethods = nil
    let code = baseOpen(baseVFS, name, base, flags, outFlags)
    let isDistrusted = code == SQLITE_OK && path.map(isPlanted) == true
    guard code == SQLITE_OK, !isDistrusted, base.pointee.pMethods != nil else {
      // SQLite closes a file whose methods are set, even after an error.
      if base.pointee.pMethods != nil { _ = base.pointee.pMethods.pointee.xClose(base) }
      return isDistrusted ? SQLITE_PERM : code
    }
    JournalFile.begin(file, path: name)
    return SQLITE_OK
  }

  /// Whether a journal is not to be believed: somebody else may have made it after the store was opened.
  static func isPlanted(_ path: String) -> Bool {
    guard let suffix = ["-journal", "-wal"].first(where: path.hasSuffix) else { return false }
    return StoreLocation.distrust(path, of: String(path.dropLast(suffix.utf8.count))) != nil
  }
}
