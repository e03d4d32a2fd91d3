import VMCheckpoint

/// Reads values in the encoding of the crate bincode with integers of fixed width: the lowest byte first, a
/// length of 8 bytes before what has one, a byte for a truth value and for what may be absent.
struct BincodeReader {
  private let bytes: [UInt8]
  private(set) var offset: Int

  init(_ bytes: [UInt8], at offset: Int = 0) {
    self.bytes = bytes
    self.offset = offset
  }

  /// - Throws: ``VMCheckpointError``, whose message goes on after the file's name, behind the end.
  mutating func integer<Value: FixedWidthInteger>(
    _ what: String,
    as type: Value.Type = Value.self
  ) throws(VMCheckpointError) -> Value {
    let byteCount = Value.bitWidth / 8
    guard byteCount <= bytes.count - offset else { throw cut(what) }
    defer { offset += byteCount }
    return bytes.littleEndian(at: offset, as: type)
  }

  mutating func boolean(_ what: String) throws(VMCheckpointError) -> Bool {
    let value: UInt8 = try integer(what)
    guard value <= 1 else { throw damaged(what, "is \(value), and not 0 or 1") }
    return value == 1
  }

  /// How many elements follow, of at least `elementByteCount` bytes each.
  mutating func count(
    _ what: String,
    elementByteCount: Int
  ) throws(VMCheckpointError) -> Int {
    let count: UInt64 = try integer(what)
    guard count <= UInt64((bytes.count - offset) / elementByteCount) else {
      throw damaged(what, "has \(count) elements, which end behind the file")
    }
    return Int(count)
  }

  /// The bytes of a text.
  mutating func text(_ what: String) throws(VMCheckpointError) -> ArraySlice<UInt8> {
    let count = try count(what, elementByteCount: 1)
    defer { offset += count }
    return bytes[offset..<(offset + count)]
  }

  mutating func skipText(_ what: String) throws(VMCheckpointError) { _ = try text(what) }

  mutating func skipOptionalText(_ what: String) throws(VMCheckpointError) {
    if try boolean(what) { try skipText(what) }
  }

  private func cut(_ what: String) -> VMCheckpointError {
    .invalidData("is cut short in \(what), at offset \(hexString(UInt64(offset)))")
  }

  private func damaged(_ what: String, _ problem: String) -> VMCheckpointError {
    .invalidData("is damaged at offset \(hexString(UInt64(offset))): \(what) \(problem)")
  }
}
