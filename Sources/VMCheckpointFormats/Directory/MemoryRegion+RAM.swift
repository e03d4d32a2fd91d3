import VMCheckpoint

extension MemoryRegion {
  /// A region of RAM that its VMM gives no name.
  static func ram(gpa: UInt64, byteCount: UInt64, fileOffset: UInt64) -> MemoryRegion {
    MemoryRegion(
      gpa: gpa,
      byteCount: byteCount,
      fileOffset: fileOffset,
      name: "ram-\(hexString(gpa))"
    )
  }
}
