extension [UInt8] {
  /// The number whose first byte is at `offset`, its lowest byte first.
  ///
  /// - Precondition: The array has all of it.
  func littleEndian<Value: FixedWidthInteger>(at offset: Int, as type: Value.Type) -> Value {
    precondition(offset >= 0 && offset <= count - MemoryLayout<Value>.size)
    return withUnsafeBytes {
      Value(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }
  }

  mutating func appendLittleEndian(_ value: some FixedWidthInteger) {
    Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
  }

  /// Appends zeros until the count is a multiple of `alignment`.
  mutating func pad(to alignment: Int) {
    let remainder = count % alignment
    if remainder > 0 { append(contentsOf: repeatElement(0, count: alignment - remainder)) }
  }
}
