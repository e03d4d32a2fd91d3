/// What a guest's own kernel said shortly before a capture: the records that `Scripts/guest.d/truth.c` prints.
package struct GuestTruth: Sendable {
  /// Of files of /proc, what they held; of links, where they lead; by path.
  private var records: [String: [UInt8]] = [:]
  /// Of open files: inode, mode and size.
  private var inodes: [String: [UInt8]] = [:]
  /// The process that collected all this. It has ended.
  package let collector: Int

  package init(_ path: String) throws {
    let bytes = try readFile(path)
    var position = 0
    var isWhole = false
    while position < bytes.count {
      // A line "KIND LENGTH PATH", so many bytes, and a line end.
      guard let end = bytes[position...].firstIndex(of: 0x0a) else { break }
      let parts = bytes[position..<end].split(separator: 0x20, maxSplits: 2)
        .map { String(decoding: $0, as: UTF8.self) }
      guard parts.count == 3, let length = Int(parts[1]), end + 1 + length < bytes.count else {
        throw TestSetupError("\(path) is not a record of truth at byte \(position)")
      }
      let content = Array(bytes[(end + 1)..<(end + 1 + length)])
      switch parts[0] {
      case "inode": inodes[parts[2]] = content
      default: records[parts[2]] = content
      }
      isWhole = parts[2] == "end"
      position = end + 1 + length + 1
    }
    guard isWhole, let text = records["collector"],
      let pid = Int(String(decoding: text, as: UTF8.self))
    else { throw TestSetupError("\(path) is not whole; make it anew with Scripts/guest --force") }
    collector = pid
  }

  package func bytes(_ path: String) -> [UInt8]? { records[path] }

  package func text(_ path: String) -> String? {
    records[path].map { String(decoding: $0, as: UTF8.self) }
  }

  /// The lines of a record; none where there is no such record.
  package func lines(_ path: String) -> [String] {
    text(path)?.split(separator: "\n", omittingEmptySubsequences: true).map(String.init) ?? []
  }

  /// Inode, mode and size of what is open at a path such as `/proc/1/fd/0`.
  package func inode(_ path: String) -> (number: UInt64, mode: UInt64, byteCount: Int64)? {
    guard let text = inodes[path].map({ String(decoding: $0, as: UTF8.self) }) else { return nil }
    let parts = text.split(separator: " ")
    guard parts.count == 3, let number = UInt64(parts[0]), let mode = UInt64(parts[1], radix: 8),
      let size = Int64(parts[2])
    else { return nil }
    return (number, mode, size)
  }

  /// The processes' numbers, the collector's not among them.
  package var pids: [Int] {
    records.keys.compactMap { path in
      let parts = path.split(separator: "/")
      guard parts.count == 3, parts[0] == "proc", parts[2] == "stat" else { return nil }
      return Int(parts[1])
    }.filter { $0 != collector }.sorted()
  }

  /// What the records below a path end in, as the numbers of threads or descriptors.
  package func numbers(below path: String) -> [Int] {
    let count = path.split(separator: "/").count
    return Set(
      records.keys.filter { $0.hasPrefix(path + "/") }
        .compactMap { Int($0.split(separator: "/")[count]) }
    ).sorted()
  }

  /// A line of a process's or thread's status file, without its name.
  package func status(_ process: String, _ name: String) -> String? {
    guard let line = lines("\(process)/status").first(where: { $0.hasPrefix("\(name):") }) else {
      return nil
    }
    return line.dropFirst(name.count + 1).split(whereSeparator: { $0 == " " || $0 == "\t" })
      .joined(separator: " ")
  }

  /// The name and the other fields of a process's or thread's stat file, the state first.
  package func stat(_ process: String) -> (comm: [UInt8], fields: [String])? {
    guard let bytes = records["\(process)/stat"], let open = bytes.firstIndex(of: 0x28),
      let close = bytes.lastIndex(of: 0x29)
    else { return nil }
    let rest = String(decoding: bytes[(close + 1)...], as: UTF8.self)
    return (
      Array(bytes[(open + 1)..<close]), rest.split(whereSeparator: \.isWhitespace).map(String.init)
    )
  }

  /// The number of a namespace that a process is in: `mnt`, `net` or `pid`.
  package func namespace(_ pid: Int, _ kind: String) -> Int64? {
    guard let text = text("/proc/\(pid)/ns/\(kind)") else { return nil }
    return Int64(text.drop { $0 != "[" }.dropFirst().prefix { $0 != "]" })
  }

  /// Text as the tables show it: what is not UTF-8, and control characters, as `\x1b`, and as
  /// two a backslash that would read as part of that.
  package static func shown(_ bytes: [UInt8], keepingLines: Bool = false) -> String {
    var text = ""
    var index = 0
    while index < bytes.count {
      var length = 1
      var piece: String?
      // The scalar that begins here, if one does.
      for count in 1...4 where index + count <= bytes.count {
        let candidate = bytes[index..<(index + count)]
        if let valid = String(validating: candidate, as: UTF8.self), valid.unicodeScalars.count == 1
        {
          (length, piece) = (count, valid)
          break
        }
      }
      let value = piece?.unicodeScalars.first?.value
      let isLine = keepingLines && (value == 0x0a || value == 0x09)
      if let piece, let value, isLine || (value >= 0x20 && !(0x7f..<0xa0).contains(value)) {
        text.unicodeScalars.append(contentsOf: piece.unicodeScalars)
        if value == 0x5c, isAmbiguous(bytes[(index + 1)...]) { text += "\\" }
      } else {
        for byte in bytes[index..<(index + length)] {
          text += "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
      }
      index += length
    }
    return text
  }

  /// Whether a backslash before this is written as two.
  private static func isAmbiguous(_ rest: ArraySlice<UInt8>) -> Bool {
    guard let next = rest.first else { return false }
    return next == 0x5c || next == 0x78
      || shown([UInt8](rest.prefix(4))).hasPrefix("\\x")
  }

  /// Undoes how /proc writes some characters: `\040`, and `\x0a` in the kernel's log.
  package static func unescaped(_ bytes: some Sequence<UInt8>, isLog: Bool = false) -> [UInt8] {
    let bytes = Array(bytes)
    var result: [UInt8] = []
    var index = 0
    while index < bytes.count {
      if bytes[index] == 0x5c, index + 3 < bytes.count {
        let digits = String(decoding: bytes[(index + 1)...(index + 3)], as: UTF8.self)
        let value =
          isLog
          ? (digits.hasPrefix("x") ? UInt8(digits.dropFirst(), radix: 16) : nil)
          : UInt8(digits, radix: 8)
        if let value {
          result.append(value)
          index += 4
          continue
        }
      }
      result.append(bytes[index])
      index += 1
    }
    return result
  }
}
