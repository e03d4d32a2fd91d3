/// CRC-32C (Castagnoli), eight bytes at a time.
///
/// Sources: RFC 3720, appendix B.4; for the tables: Kounavis and Berry, "A Systematic Approach to Building High
/// Performance Software-Based CRC Generators", 2005.
enum CRC32C {
  /// The polynomial 0x1edc6f41, its bits in reverse.
  private static let polynomial: UInt32 = 0x82f6_3b78

  /// Eight tables of 256: the first is for a byte, each other one for a byte that has one more behind it.
  private nonisolated(unsafe) static let tables: UnsafePointer<UInt32> = {
    let tables = UnsafeMutablePointer<UInt32>.allocate(capacity: 8 * 256)
    for byte in 0..<256 {
      var value = UInt32(byte)
      for _ in 0..<8 { value = value >> 1 ^ (value & 1 == 0 ? 0 : polynomial) }
      tables[byte] = value
    }
    for index in 256..<(8 * 256) {
      let before = tables[index - 256]
      tables[index] = before >> 8 ^ tables[Int(before & 0xff)]
    }
    return UnsafePointer(tables)
  }()

  static func checksum(of bytes: UnsafeRawBufferPointer) -> UInt32 {
    let tables = tables
    var crc: UInt32 = .max
    var offset = 0
    while bytes.count - offset >= 8 {
      let word =
        UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        ^ UInt64(crc)
      crc = 0
      for index in 0..<8 {
        crc ^= tables[(7 - index) * 256 + Int(word >> UInt64(8 * index) & 0xff)]
      }
      offset += 8
    }
    while offset < bytes.count {
      crc = crc >> 8 ^ tables[Int((crc ^ UInt32(bytes[offset])) & 0xff)]
      offset += 1
    }
    return ~crc
  }
}
