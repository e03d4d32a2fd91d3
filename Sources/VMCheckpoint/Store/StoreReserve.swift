import CLinux
import Glibc
import Synchronization

/// Space that a store keeps for the day when its disk is full.
///
/// What frees space needs some first: SQLite's journal holds what a transaction overwrites. So the file system keeps
/// some for the store while there is plenty, as blocks of the lock file beyond its end (`fallocate`): no file
/// more, nothing to read in it, and it goes with the lock file. An operation that frees space may give it up,
/// step by step, when a write finds the disk full (``WriteCombiningVFS`` asks), and takes it back at its end.
///
/// It is a help and never a need: where the file system cannot keep space, or has none, operations go on without.
struct StoreReserve {
  /// What transactions that free space overwrite at most, or half of that: they get smaller then.
  static let maximumByteCount = 16 << 20

  /// A store this small fills no more with its journals.
  private static let minimumByteCount = 1 << 20

  /// Less does not help: the journal of the smallest transaction.
  private static let uselessByteCount = 128 << 10

  /// What is given up at a time. What is left stays out of the reach of other programs.
  private static let stepByteCount = 4 << 20

  private let location: StoreLocation

  init(_ location: StoreLocation) {
    self.location = location
  }

  /// What the file system keeps now; 0 where there is no lock file.
  var byteCount: UInt64 {
    var status = stat()
    guard lstat(location.lock, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return 0 }
    return UInt64(clamping: status.st_blocks) * 512
  }

  /// Sees to it that the space is kept, if the disk has four times as much. Does nothing on any failure.
  func fill() {
    var status = stat()
    var disk = statvfs()
    guard lstat(location.file, &status) == 0, statvfs(location.directory, &disk) == 0 else {
      return
    }
    let fileByteCount = UInt64(clamping: status.st_size)
    let wanted = min(
      UInt64(Self.maximumByteCount),
      max(UInt64(Self.minimumByteCount), fileByteCount)
    )
    let kept = byteCount
    guard kept < wanted else { return }
    let (free, overflows) = UInt64(disk.f_bavail).multipliedReportingOverflow(
      by: UInt64(disk.f_frsize)
    )
    let affordable = overflows ? wanted : (free + kept) / 4
    Self.keep(min(wanted, affordable), at: location.lock, moreThan: kept)
  }

  /// Runs `body`, whose writes may use the space, and takes it back afterwards.
  func lending<Result>(_ body: () throws -> Result) rethrows -> Result {
    let before = byteCount
    Self.lend(location.file)
    defer {
      Self.endLending(location.file)
      // More than ``fill()`` would dare to take: it was the store's before. Nothing else wants it now but what other
      // programs have taken meanwhile.
      var wanted = before
      while byteCount < before, wanted >= Self.uselessByteCount {
        Self.keep(wanted, at: location.lock, moreThan: byteCount)
        wanted /= 2
      }
    }
    return try body()
  }

  private static func keep(_ byteCount: UInt64, at path: String, moreThan kept: UInt64) {
    let rounded = byteCount / 4096 * 4096
    guard rounded > kept, rounded >= uselessByteCount, let file = lockFile(path) else { return }
    defer { close(file) }
    // A call that fails half-way leaves what it has got.
    if clinux_reserve(file, rounded) != 0, errno == ENOSPC, kept == 0 { ftruncate(file, 0) }
  }

  /// A descriptor of what is a lock file for sure; not something else that has its name.
  private static func lockFile(_ path: String) -> Int32? {
    let descriptor = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { return nil }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
      status.st_size == 0, status.st_nlink == 1
    else {
      close(descriptor)
      return nil
    }
    return descriptor
  }

  // MARK: For the VFS

  /// The files of stores for which an operation is under way that may use the space, and how many there are.
  private static let borrowers = Mutex<[String: Int]>([:])

  private static func lend(_ file: String) {
    borrowers.withLock { $0[file, default: 0] += 1 }
  }

  private static func endLending(_ file: String) {
    borrowers.withLock { borrowers in
      let count = borrowers[file, default: 1] - 1
      borrowers[file] = count > 0 ? count : nil
    }
  }

  /// Gives some of the space back to the file system, for a write that found the disk full.
  ///
  /// - Parameter file: The store's file, by the name that SQLite has it by.
  /// - Returns: Whether there is more space now than before, so that the write is worth another try.
  static func giveUp(of file: String) -> Bool {
    guard borrowers.withLock({ $0[file] != nil }), let lock = lockFile(file + "-lock") else {
      return false
    }
    defer { close(lock) }
    var status = stat()
    guard fstat(lock, &status) == 0, status.st_blocks > 0 else { return false }
    let kept = Int(clamping: status.st_blocks) * 512
    // Frees what is kept beyond the end. The sync ends the file system's transaction: until then ext4 does not give the
    // blocks to another file.
    guard ftruncate(lock, 0) == 0 else { return false }
    fsync(lock)
    if kept > stepByteCount { _ = clinux_reserve(lock, UInt64(kept - stepByteCount)) }
    return true
  }
}
