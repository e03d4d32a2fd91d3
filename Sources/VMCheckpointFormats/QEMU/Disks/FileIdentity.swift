import CLinux
import Glibc

/// What shows whether a file is the one that it was, and unchanged.
package struct FileIdentity: Codable, Hashable, Sendable {
  package var byteCount: UInt64
  /// When it was last written, since 1970.
  package var modifiedNanoseconds: Int64
  package var inode: UInt64
  /// The number of its file system, which may have another after the next start of the host.
  package var device: UInt64

  private enum CodingKeys: String, CodingKey {
    case byteCount = "bytes"
    case modifiedNanoseconds = "mtime_ns"
    case inode, device
  }

  /// Makes one with these values.
  package init(byteCount: UInt64, modifiedNanoseconds: Int64, inode: UInt64, device: UInt64) {
    self.byteCount = byteCount
    self.modifiedNanoseconds = modifiedNanoseconds
    self.inode = inode
    self.device = device
  }

  /// `nil` for what is not a regular file.
  init?(_ status: stat) {
    guard status.st_mode & S_IFMT == S_IFREG else { return nil }
    byteCount = UInt64(clamping: status.st_size)
    let (seconds, nanoseconds) = (Int64(status.st_mtim.tv_sec), Int64(status.st_mtim.tv_nsec))
    modifiedNanoseconds = seconds &* 1_000_000_000 &+ nanoseconds
    inode = UInt64(status.st_ino)
    device = UInt64(status.st_dev)
  }

  /// What differs in `now`; `nil`: the file is as it was.
  ///
  /// The number of the file system is not compared: many get another one when the host starts. A file with the
  /// same number, size and time of writing in another file system is a copy of that file system.
  func difference(from now: FileIdentity) -> String? {
    if now.inode != inode { return "it is another file than then" }
    if now.byteCount != byteCount { return "it had \(byteCount) bytes, and has \(now.byteCount)" }
    guard now.modifiedNanoseconds == modifiedNanoseconds else {
      return "it was written at \(now.modifiedTime), and then last at \(modifiedTime)"
    }
    return nil
  }

  private var modifiedTime: String { Self.time(nanoseconds: modifiedNanoseconds) }

  /// A time since 1970 as ISO 8601 has it, in UTC, with as many digits as the file system keeps.
  package static func time(nanoseconds: Int64) -> String {
    let (quotient, remainder) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
    var seconds = time_t(remainder < 0 ? quotient - 1 : quotient)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    func padded(_ number: Int64, _ width: Int) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
    let date = [Int64(parts.tm_year) + 1900, Int64(parts.tm_mon) + 1, Int64(parts.tm_mday)]
    let clock = [parts.tm_hour, parts.tm_min, parts.tm_sec]
    let fraction = remainder < 0 ? remainder + 1_000_000_000 : remainder
    return date.map { padded($0, 2) }.joined(separator: "-") + "T"
      + clock.map { padded(Int64($0), 2) }.joined(separator: ":") + ".\(padded(fraction, 9))Z"
  }
}

/// QEMU's locks on an image: open-file-description locks on single bytes, one for each permission that somebody
/// has (from 100 on) or denies to others (from 200 on). (QEMU `block/file-posix.c`, `include/block/block-common.h`.)
enum QEMUImageLock {
  private static let used: Int64 = 100
  private static let denied: Int64 = 200
  private static let consistentRead: Int64 = 0
  private static let write: Int64 = 1

  /// Whether somebody writes to the image, or, where it is to be written, whether somebody reads it and relies on
  /// its staying as it is.
  ///
  /// - Returns: `false` as well where the file system has no such locks.
  static func isInUse(_ descriptor: Int32, forWriting: Bool) -> Bool {
    let bytes =
      forWriting ? [used + write, denied + write] : [used + write, denied + consistentRead]
    return bytes.contains { byte in
      // A question only: a lock for writing conflicts with anybody's.
      var lock = flock()
      lock.l_type = Int16(F_WRLCK)
      lock.l_whence = Int16(SEEK_SET)
      lock.l_start = off_t(byte)
      lock.l_len = 1
      return fcntl(descriptor, clinux_f_ofd_getlk, &lock) == 0 && lock.l_type != Int16(F_UNLCK)
    }
  }
}
