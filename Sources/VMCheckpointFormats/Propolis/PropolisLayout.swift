public import VMCheckpoint

/// Where the RAM of a guest of Propolis lies: from GPA 0 up to 3 GiB, and what more there is from
/// 4 GiB on.
///
/// Source: propolis `bin/propolis-standalone/src/main.rs` at 372a5744.
public enum PropolisLayout {
  /// What fits below the hole.
  static let maximumLowByteCount: UInt64 = 3 << 30
  /// Where the rest goes on.
  static let highGPA: UInt64 = 4 << 30

  /// The layout of a guest with `byteCount` bytes of RAM.
  ///
  /// - Throws: ``VMCheckpointError`` when `byteCount` is 0 or no multiple of 4096.
  public static func layout(ramByteCount byteCount: UInt64) throws(VMCheckpointError) -> RAMLayout {
    let low = min(byteCount, maximumLowByteCount)
    var regions = [MemoryRegion(gpa: 0, byteCount: low, fileOffset: 0, name: "low")]
    if byteCount > low {
      regions.append(
        MemoryRegion(gpa: highGPA, byteCount: byteCount - low, fileOffset: low, name: "high")
      )
    }
    return try RAMLayout(regions: regions)
  }
}
