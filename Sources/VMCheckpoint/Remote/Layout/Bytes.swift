/// Reads numbers out of bytes that a stranger wrote: past their end it throws.
///
/// Numbers are little-endian. Those called `varint` have seven bits a byte, the lowest first; `zigzag` ones may be
/// negative.
struct ByteReader {
  private let bytes: ArraySlice<UInt8>
  private var position: Int
  /// What the bytes are, for messages.
  private let title: String

  init(_ bytes: ArraySlice<UInt8>, title: String) {
    self.bytes = bytes
    self.title = title
    position = bytes.startIndex
  }

  var remainingByteCount: Int { bytes.endIndex - position }

  /// The error for bytes that make no sense.
  var damage: VMCheckpointError { .corrupt("\(title) is damaged") }

  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when bytes are left.
  func requireEnd() throws(VMCheckpointError) {
    guard remainingByteCount == 0 else { throw damage }
  }

  mutating func slice(_ count: Int) throws(VMCheckpointError) -> ArraySlice<UInt8> {
    guard count >= 0, count <= remainingByteCount else { throw damage }
    defer { position += count }
    return bytes[position..<(position + count)]
  }

  mutating func byte() throws(VMCheckpointError) -> UInt8 {
    guard position < bytes.endIndex else { throw damage }
    defer { position += 1 }
    return bytes[position]
  }

  mutating func little16() throws(VMCheckpointError) -> UInt16 { try little() }
  mutating func little32() throws(VMCheckpointError) -> UInt32 { try little() }
  mutating func little64() throws(VMCheckpointError) -> UInt64 { try little() }

  mutating func big64() throws(VMCheckpointError) -> UInt64 {
    (try little() as UInt64).byteSwapped
  }

  /// A number that has to be at most `maximum`.
  mutating func varint(atMost maximum: UInt64) throws(VMCheckpointError) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 64, by: 7) {
      let byte = try byte()
      // The tenth byte has room for one bit.
      guard shift < 63 || byte <= 1 else { throw damage }
      value |= UInt64(byte & 0x7f) << shift
      if byte & 0x80 == 0 {
        guard value <= maximum else { throw damage }
        return value
      }
    }
    throw damage
  }

  /// A number that was written as its difference from `base`, and has to be in `0...maximum`.
  mutating func zigzag(from base: UInt64, atMost maximum: UInt64) throws(VMCheckpointError)
    -> UInt64
  {
    let coded = try varint(atMost: .max)
    let difference = Int64(bitPattern: coded >> 1) ^ -Int64(bitPattern: coded & 1)
    let (value, overflows) = Int64(clamping: base).addingReportingOverflow(difference)
    guard !overflows, value >= 0, UInt64(value) <= maximum else { throw damage }
    return UInt64(value)
  }

  private mutating func little<Number: FixedWidthInteger>() throws(VMCheckpointError) -> Number {
    let slice = try slice(MemoryLayout<Number>.size)
    return Number(
      littleEndian: slice.withUnsafeBytes { $0.loadUnaligned(as: Number.self) }
    )
  }
}

/// Writes what a ``ByteReader`` reads.
struct ByteWriter {
  private(set) var bytes: [UInt8] = []

  init(capacity: Int = 0) { bytes.reserveCapacity(capacity) }

  mutating func append(_ other: some Sequence<UInt8>) { bytes.append(contentsOf: other) }
  mutating func append(_ other: UnsafeRawBufferPointer) { bytes.append(contentsOf: other) }
  mutating func byte(_ value: UInt8) { bytes.append(value) }
  mutating func little16(_ value: UInt16) { little(value) }
  mutating func little32(_ value: UInt32) { little(value) }
  mutating func little64(_ value: UInt64) { little(value) }
  mutating func big64(_ value: UInt64) { little(value.byteSwapped) }

  mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  mutating func zigzag(_ value: UInt64, from base: UInt64) {
    let difference = Int64(value) - Int64(base)
    varint(UInt64(bitPattern: difference << 1 ^ difference >> 63))
  }

  private mutating func little<Number: FixedWidthInteger>(_ value: Number) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }
}
