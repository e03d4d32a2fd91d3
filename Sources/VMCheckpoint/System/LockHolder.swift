import Glibc
import SystemPackage

/// A process that has a lock on a file, for messages.
///
/// Nothing is recorded for this: Linux shows each descriptor's locks in `/proc/PID/fdinfo/N`. So it cannot be
/// out of date. Processes of other users and of other PID namespaces are not seen, and a lock that was
/// taken through an inherited descriptor is seen at each process that has it.
struct LockHolder: Hashable {
  /// More processes than this are not named.
  private static let maximumShownCount = 3
  /// More processes, or descriptors of one, are not looked at.
  private static let maximumNameCount = 65_536
  /// `/proc` files are read up to here.
  private static let maximumTextByteCount = 16 << 10

  let processID: Int32
  /// Such as `vmckpt save`, or another program's name; never its arguments.
  let command: String
  /// `nil` when the process has ended meanwhile.
  let startedAt: String?

  /// Words for a message; `nil` when there is no holder.
  static func list(_ holders: [LockHolder]) -> String? {
    guard !holders.isEmpty else { return nil }
    let shown = holders.prefix(maximumShownCount).map(\.text).joined(separator: ", ")
    let rest = holders.count - min(holders.count, maximumShownCount)
    return rest == 0 ? shown : "\(shown) and \(rest) more"
  }

  private var text: String {
    let since = startedAt.map { ", since \($0)" } ?? ""
    return "\(command) (PID \(processID)\(since))"
  }

  /// Who has a lock on any byte of the file at `path`.
  static func all(ofFileAt path: String) -> [LockHolder] {
    var status = stat()
    guard stat(path, &status) == 0 else { return [] }
    return all(of: status, bytes: 0..<Int64.max)
  }

  /// Who has a lock on one of these bytes of an open file.
  static func all(of fileDescriptor: Int32, bytes: Range<Int64>) -> [LockHolder] {
    var status = stat()
    guard fstat(fileDescriptor, &status) == 0 else { return [] }
    return all(of: status, bytes: bytes)
  }

  private static func all(of file: stat, bytes: Range<Int64>) -> [LockHolder] {
    let own = getpid()
    return names(in: "/proc").compactMap { Int32($0) }.sorted()
      .filter { $0 != own && hasLock($0, on: file, bytes) }
      .map { LockHolder(processID: $0, command: command(of: $0), startedAt: startTime(of: $0)) }
  }

  private static func names(in directory: String) -> [String] {
    FilesOfDirectory.names(in: directory, maximumCount: maximumNameCount)
  }

  /// Looks at the file itself only where a lock is on one with its number: to look at a file of a mount asks the mount's
  /// server, which may be this process, and waits for it.
  private static func hasLock(_ process: Int32, on file: stat, _ bytes: Range<Int64>) -> Bool {
    names(in: "/proc/\(process)/fd").contains { descriptor in
      let isLocked = text("/proc/\(process)/fdinfo/\(descriptor)").split(separator: "\n")
        .contains { overlaps(lockLine: $0, bytes, inode: UInt64(file.st_ino)) }
      guard isLocked else { return false }
      var status = stat()
      return stat("/proc/\(process)/fd/\(descriptor)", &status) == 0
        && status.st_dev == file.st_dev && status.st_ino == file.st_ino
    }
  }

  /// A line is `lock: 1: OFDLCK ADVISORY WRITE -1 00:1c:1234 0 0`; the last number may be `EOF`. A waiting
  /// request has `->` before its kind.
  private static func overlaps(
    lockLine line: some StringProtocol,
    _ bytes: Range<Int64>,
    inode: UInt64
  ) -> Bool {
    let words = line.split(whereSeparator: \.isWhitespace)
    guard words.count >= 9, words.first == "lock:", words[2] == "OFDLCK" || words[2] == "POSIX",
      words[words.count - 3].split(separator: ":").last.flatMap({ UInt64($0) }) == inode,
      let first = Int64(words[words.count - 2])
    else { return false }
    let last = Int64(words[words.count - 1]) ?? Int64.max
    return first < bytes.upperBound && last >= bytes.lowerBound
  }

  private static func command(of process: Int32) -> String {
    let name = text("/proc/\(process)/comm").split(separator: "\n").first.map(String.init)
    guard name == "vmckpt" else { return name.map { quotedName($0) } ?? "a program" }
    let arguments = text("/proc/\(process)/cmdline").split(separator: "\0")
    guard arguments.count > 1, arguments[1].allSatisfy({ $0.isLetter }), arguments[1].count < 20
    else { return "vmckpt" }
    return "vmckpt \(arguments[1])"
  }

  /// Field 22 of `/proc/PID/stat`, counted in ticks from the boot. The name before it may hold spaces.
  private static func startTime(of process: Int32) -> String? {
    let status = text("/proc/\(process)/stat")
    guard let end = status.lastIndex(of: ")") else { return nil }
    let fields = status[end...].split(separator: " ")
    let boot = text("/proc/stat").split(separator: "\n").first { $0.hasPrefix("btime ") }
    guard fields.count > 20, let ticks = Int(fields[20]), let boot,
      let second = Int(boot.dropFirst(6))
    else { return nil }
    let perSecond = max(1, sysconf(Int32(_SC_CLK_TCK)))
    return UTCTime.text(secondsSince1970: second &+ ticks / perSecond)
  }

  private static func text(_ path: String) -> String {
    guard let file = try? FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
    else { return "" }
    defer { try? file.close() }
    var bytes = [UInt8](repeating: 0, count: maximumTextByteCount)
    let count = bytes.withUnsafeMutableBytes { (try? file.read(into: $0)) ?? 0 }
    return String(decoding: bytes.prefix(count), as: UTF8.self)
  }
}
