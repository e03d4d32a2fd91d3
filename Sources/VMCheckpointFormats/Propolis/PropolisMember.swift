import VMCheckpoint

/// What a member of a snapshot of propolis-standalone is, by its name.
enum PropolisMember: Hashable {
  /// `config.toml`.
  case config
  /// `global.json`.
  case global
  /// `devices` or `memory`.
  case directory
  /// `devices/NAME.json`.
  case device
  /// `memory/START-END.bin`: RAM from GPA START up to but not including END.
  case memory(start: UInt64, end: UInt64)

  /// - Throws: ``VMCheckpointError``, whose message goes on after the archive's name, when Propolis
  ///   writes no such member.
  init(_ member: TarIndex.Member) throws(VMCheckpointError) {
    let path = member.path
    if member.isDirectory {
      guard path == "devices" || path == "memory" else { throw Self.unknown(path) }
      self = .directory
    } else if path == "config.toml" {
      self = .config
    } else if path == "global.json" {
      self = .global
    } else if let name = Self.stem(of: path, in: "devices/", extension: ".json") {
      guard !name.contains("/") else { throw Self.unknown(path) }
      self = .device
    } else if let name = Self.stem(of: path, in: "memory/", extension: ".bin"),
      let (start, end) = Self.addresses(name)
    {
      guard start < end, member.byteCount == end - start else {
        throw .invalidData(
          "has a member \(quotedName(path)) of \(member.byteCount) bytes, which is not the size "
            + "in its name"
        )
      }
      self = .memory(start: start, end: end)
    } else {
      throw Self.unknown(path)
    }
  }

  private static func unknown(_ path: String) -> VMCheckpointError {
    .invalidData(
      "has a member \(quotedName(path)), which no snapshot of propolis-standalone has",
      hint: "its members are config.toml, global.json, devices/*.json and memory/START-END.bin"
    )
  }

  private static func stem(
    of path: String,
    in directory: String,
    extension suffix: String
  ) -> Substring? {
    guard path.hasPrefix(directory), path.hasSuffix(suffix),
      path.utf8.count > directory.utf8.count + suffix.utf8.count
    else { return nil }
    return path.dropFirst(directory.count).dropLast(suffix.count)
  }

  /// Two addresses as `%08x-%08x` writes them, and no other way.
  private static func addresses(_ name: Substring) -> (start: UInt64, end: UInt64)? {
    let parts = name.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 2, let start = address(parts[0]), let end = address(parts[1])
    else { return nil }
    return (start, end)
  }

  private static func address(_ text: Substring) -> UInt64? {
    guard let value = UInt64(text, radix: 16), text == hexadecimalAddress(value) else { return nil }
    return value
  }

  /// As `%08x` writes it.
  private static func hexadecimalAddress(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: max(0, 8 - digits.utf8.count)) + digits
  }
}
