import VMCheckpoint

/// Reads the little of RON (Rusty Object Notation) that Propolis writes device states in: structs with
/// named fields, `Some(…)`, `None` and integers.
///
/// Source: the grammar of the `ron` crate, `docs/grammar.md`.
struct RONReader {
  indirect enum Value: Hashable {
    case integer(UInt64)
    case none
    case some(Value)
    /// The fields in their order, each name once.
    case structure([Field])
  }

  struct Field: Hashable {
    var name: String
    var value: Value
  }

  /// What Propolis writes nests three levels deep.
  private static let maximumDepth = 8
  /// Longer than any name of a field.
  private static let maximumNameByteCount = 64

  private let bytes: [UInt8]
  private var position = 0

  /// Reads one value from `bytes`, which hold nothing else but white space.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` that tells line and column (in
  ///   bytes), each from 1.
  static func read(_ bytes: [UInt8]) throws(VMCheckpointError) -> Value {
    var reader = RONReader(bytes: bytes)
    let value = try reader.readValue(depth: 0)
    reader.skipWhiteSpace()
    guard reader.position == bytes.count else { throw reader.invalid("expected the end") }
    return value
  }

  private init(bytes: [UInt8]) {
    self.bytes = bytes
  }

  private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func readValue(depth: Int) throws(VMCheckpointError) -> Value {
    guard depth < Self.maximumDepth else {
      throw invalid("nested more than \(Self.maximumDepth) levels deep")
    }
    skipWhiteSpace()
    switch current {
    case UInt8(ascii: "("):
      return .structure(try readFields(depth: depth))
    case .some(UInt8(ascii: "0")...UInt8(ascii: "9")):
      return .integer(try readInteger())
    default:
      let start = position
      let name = try readName()
      if name == "None" { return .none }
      skipWhiteSpace()
      guard current == UInt8(ascii: "(") else {
        position = start
        throw invalid("expected an integer, None, Some(…) or a struct")
      }
      // A struct may have its type's name before it.
      guard name == "Some" else { return .structure(try readFields(depth: depth)) }
      position += 1
      let value = try readValue(depth: depth + 1)
      skipWhiteSpace()
      skip(UInt8(ascii: ","))
      skipWhiteSpace()
      guard skip(UInt8(ascii: ")")) else { throw invalid("expected \")\"") }
      return .some(value)
    }
  }

  /// Reads from an opening parenthesis to the closing one.
  private mutating func readFields(depth: Int) throws(VMCheckpointError) -> [Field] {
    var fields: [Field] = []
    position += 1
    while true {
      skipWhiteSpace()
      if skip(UInt8(ascii: ")")) { return fields }
      let name = try readName()
      guard !fields.contains(where: { $0.name == name }) else {
        throw invalid("\(name) is given twice")
      }
      skipWhiteSpace()
      guard skip(UInt8(ascii: ":")) else { throw invalid("expected \":\"") }
      fields.append(Field(name: name, value: try readValue(depth: depth + 1)))
      skipWhiteSpace()
      guard skip(UInt8(ascii: ",")) || current == UInt8(ascii: ")") else {
        throw invalid("expected \",\" or \")\"")
      }
    }
  }

  private mutating func readName() throws(VMCheckpointError) -> String {
    let start = position
    while let byte = current, Self.isNameByte(byte), position - start < Self.maximumNameByteCount {
      position += 1
    }
    guard position > start, !(0x30...0x39).contains(bytes[start]) else {
      position = start
      throw invalid("expected a name")
    }
    return String(decoding: bytes[start..<position], as: UTF8.self)
  }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    let character = Character(Unicode.Scalar(byte))
    return byte == UInt8(ascii: "_")
      || character.isASCII && (character.isLetter || character.isNumber)
  }

  /// A decimal number, or `0x` and hexadecimal digits, of at most 64 bits.
  private mutating func readInteger() throws(VMCheckpointError) -> UInt64 {
    let start = position
    while let byte = current, Self.isNameByte(byte) { position += 1 }
    let digits = bytes[start..<position].filter { $0 != UInt8(ascii: "_") }
    let text = String(decoding: digits, as: UTF8.self)
    let value = text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
    guard let value else {
      position = start
      throw invalid("expected an integer of 64 bits")
    }
    return value
  }

  private mutating func skipWhiteSpace() {
    while let byte = current, byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d {
      position += 1
    }
  }

  @discardableResult
  private mutating func skip(_ byte: UInt8) -> Bool {
    guard current == byte else { return false }
    position += 1
    return true
  }

  private func invalid(_ message: String) -> VMCheckpointError {
    let read = bytes.prefix(position)
    let line = read.count { $0 == 0x0a } + 1
    let lineStart = read.lastIndex(of: 0x0a).map { $0 + 1 } ?? 0
    return .invalidData("\(message) (line \(line), column \(position - lineStart + 1))")
  }
}
