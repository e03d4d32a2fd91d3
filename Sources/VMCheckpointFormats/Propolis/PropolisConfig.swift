import VMCheckpoint

/// What of a snapshot's `config.toml` matters here: the guest's RAM.
enum PropolisConfig {
  /// A configuration is written by hand, and has some tens of lines.
  static let maximumByteCount = 1 << 20

  /// The guest's RAM in bytes, from `main.memory`, which counts MiB.
  ///
  /// - Throws: ``VMCheckpointError`` when the text is not TOML or has no such number.
  static func ramByteCount(_ toml: [UInt8]) throws(VMCheckpointError) -> UInt64 {
    guard String(validating: toml, as: UTF8.self) != nil, !toml.contains(0) else {
      throw .invalidData("is not UTF-8 text")
    }
    guard let mebibytes = try TOMLReader.integer(at: ["main", "memory"], in: toml) else {
      throw .invalidData("has no number main.memory, the guest's RAM in MiB")
    }
    guard (1...Int64(RAMLayout.gpaLimit >> 20)).contains(mebibytes) else {
      throw .invalidData("says that main.memory is \(mebibytes) MiB, which no guest has")
    }
    return UInt64(mebibytes) << 20
  }
}
