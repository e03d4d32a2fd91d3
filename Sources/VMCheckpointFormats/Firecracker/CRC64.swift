/// The CRC-64 of Firecracker's vmstate files: the polynomial of Jones, reflected, from 0 on.
///
/// A file that ends with its checksum, lowest byte first, has the checksum 0 as a whole.
///
/// Source: the crate crc64 1.0, which calls it Redis's.
enum CRC64 {
  private static let polynomial: UInt64 = 0x95ac_9329_ac4b_c9b5

  private static let table: [UInt64] = (0..<256).map { byte in
    var value = UInt64(byte)
    for _ in 0..<8 { value = value & 1 == 0 ? value >> 1 : value >> 1 ^ polynomial }
    return value
  }

  /// - Complexity: O(*n*), some 300 MB/s.
  static func checksum(_ bytes: some Sequence<UInt8>) -> UInt64 {
    table.withUnsafeBufferPointer { table in
      bytes.reduce(0) { $0 >> 8 ^ table[Int(UInt8(truncatingIfNeeded: $0) ^ $1)] }
    }
  }
}
