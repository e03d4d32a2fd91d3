/// The table by which a kernel's symbol names are compressed: a string for each of 256 token numbers.
///
/// It is found by its index, 256 rising offsets of two bytes: no other page of a kernel has one.
struct TokenTable {
  static let tokenCount = 256
  static let indexByteCount = tokenCount * 2
  /// How many of the index's first values filter places.
  private static let filterCount = 6
  private static let maximumStep = 512

  /// Where the table and its index are.
  let gpa: UInt64
  let indexGPA: UInt64
  private let bytes: [UInt8]
  private let offsets: [UInt16]

  /// Whether an index may begin in a page at `offset`, a multiple of 4, as far as the page shows.
  static func mayBegin(_ page: UnsafeRawPointer, at offset: Int) -> Bool {
    let count = min(tokenCount, (Page.byteCount - offset) / 2)
    var last: UInt16 = 0
    for index in 1..<max(count, 1) {
      let value = page.load(fromByteOffset: offset + index * 2, as: UInt16.self)
      let limit = index < filterCount ? 128 : maximumStep
      guard value > last, Int(value - last) <= limit else { return false }
      last = value
    }
    return true
  }

  /// The table whose index is at `indexGPA`; `nil` where there is none.
  init?(_ ram: some GuestRAM, indexAt indexGPA: UInt64) throws {
    guard let index = try ram.bytes(indexGPA, count: Self.indexByteCount) else { return nil }
    offsets = index.withUnsafeBytes { bytes in
      (0..<Self.tokenCount).map {
        UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 2, as: UInt16.self))
      }
    }
    guard offsets[0] == 0 else { return nil }
    for (offset, next) in zip(offsets, offsets.dropFirst()) {
      guard next > offset, Int(next - offset) <= Self.maximumStep else { return nil }
    }
    // The last token, and up to 7 bytes that align the index.
    let last = Int(offsets[255])
    let reach = last + Self.maximumStep + 8
    guard indexGPA > UInt64(reach),
      let before = try ram.bytes(indexGPA - UInt64(reach), count: reach)
    else { return nil }
    var length = (last + 1 + 3) / 4 * 4
    while length <= reach {
      let table = before[(reach - length)...]
      if let tokens = Self.tokens(Array(table), offsets) {
        bytes = tokens
        gpa = indexGPA - UInt64(length)
        self.indexGPA = indexGPA
        return
      }
      length += 4
    }
    return nil
  }

  /// A table that is known, for tests of names alone.
  private static func tokens(_ table: [UInt8], _ offsets: [UInt16]) -> [UInt8]? {
    for offset in offsets.dropFirst() where table[Int(offset) - 1] != 0 { return nil }
    for digit in 0..<10 {
      let start = Int(offsets[0x30 + digit])
      guard start + 1 < table.count, table[start] == UInt8(0x30 + digit), table[start + 1] == 0
      else { return nil }
    }
    guard let end = table[Int(offsets[255])...].firstIndex(of: 0), table.count - end <= 8,
      table[end...].allSatisfy({ $0 == 0 })
    else { return nil }
    return table
  }

  /// Writes the characters of `count` token numbers to `name`.
  ///
  /// - Returns: How many characters there are; `nil` when `name` has no room for them.
  @inline(__always)
  func expand(
    _ numbers: UnsafePointer<UInt8>,
    _ count: Int,
    into name: UnsafeMutableBufferPointer<UInt8>
  ) -> Int? {
    var length = 0
    return bytes.withUnsafeBufferPointer { bytes in
      for index in 0..<count {
        var position = Int(offsets[Int(numbers[index])])
        while position < bytes.count, bytes[position] != 0 {
          guard length < name.count else { return nil }
          name[length] = bytes[position]
          length += 1
          position += 1
        }
      }
      return length
    }
  }
}
