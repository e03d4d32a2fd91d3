/// Makes a kernel's tables of symbols in the forms that versions have had.
package struct KallsymsBuilder {
  package enum Form: CaseIterable, Sendable {
    /// Up to 6.3: addresses before the names, negative ones counted from a base.
    case before
    /// 6.2 and 6.3, with three bytes for each symbol between the markers and the tokens.
    case withSequences
    /// From 6.4 on: behind the tokens, counted from a base.
    case after
    /// From 7.0 on: distances from their own places.
    case places
  }

  package struct Symbol {
    package var type: String
    package var name: String
    package var address: UInt64

    package init(_ type: String, _ name: String, _ address: UInt64) {
      self.type = type
      self.name = name
      self.address = address
    }
  }

  private let form: Form
  private let symbols: [Symbol]
  private let base: UInt64

  /// - Parameter symbols: In ascending order of address.
  package init(_ form: Form, _ symbols: [Symbol]) {
    self.form = form
    self.symbols = symbols
    base = symbols.first { $0.address >= 1 << 31 }?.address ?? 0
  }

  /// Single characters, and fillers for what no name has.
  private static let tokens: [[UInt8]] = (0..<256).map {
    (0x21..<0x7f).contains($0) ? [UInt8($0)] : Array("~\($0)".utf8)
  }

  /// The tables, to be put at `gpa`, which is a multiple of 8.
  ///
  /// - Parameter imageOffset: What addresses have more than places.
  package func bytes(at gpa: UInt64, imageOffset: UInt64) -> (bytes: [UInt8], names: UInt64) {
    var names: [UInt8] = []
    var markers: [UInt8] = []
    for (index, symbol) in symbols.enumerated() {
      if index % 256 == 0 { markers += littleEndian(UInt32(names.count)) }
      let text = Array((symbol.type + symbol.name).utf8)
      names +=
        text.count < 128
        ? [UInt8(text.count)] : [UInt8(text.count & 127 | 128), UInt8(text.count >> 7)]
      names += text
    }
    var table: [UInt8] = []
    var index: [UInt8] = []
    for token in Self.tokens {
      index += littleEndian(UInt16(table.count))
      table += token + [0]
    }
    var bytes: [UInt8] = []
    func align(_ count: Int) { while bytes.count % count != 0 { bytes.append(0) } }
    func addOffsets() {
      let start = gpa + UInt64(bytes.count)
      for (number, symbol) in symbols.enumerated() {
        switch form {
        case .before, .withSequences:
          let isNumber = symbol.address < 1 << 31
          let value = isNumber ? symbol.address : base &- 1 &- symbol.address
          bytes += littleEndian(UInt32(truncatingIfNeeded: value))
        case .after: bytes += littleEndian(UInt32(truncatingIfNeeded: symbol.address &- base))
        case .places:
          let place = start + UInt64(4 * number)
          bytes += littleEndian(UInt32(truncatingIfNeeded: symbol.address &- imageOffset &- place))
        }
      }
      align(8)
      if form != .places { bytes += littleEndian(base) }
    }
    if form == .before || form == .withSequences { addOffsets() }
    bytes += littleEndian(UInt32(symbols.count))
    if form != .places { align(8) }
    let place = gpa + UInt64(bytes.count)
    bytes += names
    align(8)
    bytes += markers
    if form == .withSequences {
      bytes += (0..<(3 * symbols.count)).map { UInt8(truncatingIfNeeded: $0 * 7 + 1) }
    }
    align(8)
    bytes += table
    align(8)
    bytes += index
    align(8)
    if form == .after || form == .places { addOffsets() }
    return (bytes, place)
  }
}
