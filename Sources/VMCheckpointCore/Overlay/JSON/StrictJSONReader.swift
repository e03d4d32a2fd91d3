/// Reads JSON (RFC 8259) that nobody has vouched for.
///
/// Foundation's decoders take the last of two equal keys without a word and turn `1e3` and `1.0`
/// into integers; both would make one document mean two things. This reader refuses equal keys,
/// keeps integers exact, and bounds depth and count, so that its memory stays in proportion to
/// its input.
package struct StrictJSONReader {
  /// The document format nests three levels deep.
  package static let maximumDepth = 16

  /// The longest string as the document spells it. A page in base64 has 5464 characters, each
  /// of which may be spelled with an escape of six.
  package static let maximumStringByteCount = 64 << 10

  private let bytes: [UInt8]
  private let maximumValueCount: Int
  private let maximumStringByteCount: Int
  private var position = 0
  private var valueCount = 0
  private var path = JSONPath()

  /// Reads one value from `bytes`, which hold nothing else but white space.
  ///
  /// - Parameter maximumValueCount: More values than this are refused, because a value of two
  ///   bytes takes many times that in memory.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`; its message names the path, the
  ///   line and the column (in bytes), each from 1.
  package static func read(
    _ bytes: [UInt8],
    maximumValueCount: Int,
    maximumStringByteCount: Int = Self.maximumStringByteCount
  ) throws(VMCheckpointError) -> StrictJSONValue {
    var reader = StrictJSONReader(
      bytes: bytes,
      maximumValueCount: maximumValueCount,
      maximumStringByteCount: maximumStringByteCount
    )
    let value = try reader.readValue()
    reader.skipWhiteSpace()
    guard reader.position == bytes.count else {
      throw reader.syntaxError("expected the end of the document")
    }
    return value
  }

  private init(bytes: [UInt8], maximumValueCount: Int, maximumStringByteCount: Int) {
    self.bytes = bytes
    self.maximumValueCount = maximumValueCount
    self.maximumStringByteCount = maximumStringByteCount
  }

  private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func readValue() throws(VMCheckpointError) -> StrictJSONValue {
    skipWhiteSpace()
    valueCount += 1
    guard valueCount <= maximumValueCount else {
      throw syntaxError("more than \(maximumValueCount) values")
    }
    switch current {
    case UInt8(ascii: "{"):
      return .object(try readMembers())
    case UInt8(ascii: "["):
      return .array(try readElements())
    case UInt8(ascii: "\""):
      return .string(try readString())
    case .some(UInt8(ascii: "-")), .some(UInt8(ascii: "0")...UInt8(ascii: "9")):
      return try readNumber()
    case UInt8(ascii: "n") where skip("null"):
      return .null
    case UInt8(ascii: "t") where skip("true"):
      return .boolean
    case UInt8(ascii: "f") where skip("false"):
      return .boolean
    default:
      throw syntaxError("expected a value")
    }
  }

  private mutating func readMembers() throws(VMCheckpointError) -> [StrictJSONValue.Member] {
    var members: [StrictJSONValue.Member] = []
    var keys: Set<String> = []
    try readList(closedBy: UInt8(ascii: "}")) { reader throws(VMCheckpointError) in
      guard reader.current == UInt8(ascii: "\"") else {
        throw reader.syntaxError("expected a key in quotes")
      }
      let key = try reader.readString()
      reader.path.components.append(.key(key))
      guard keys.insert(key).inserted else {
        throw reader.syntaxError("given twice")
      }
      reader.skipWhiteSpace()
      guard reader.skip(":") else { throw reader.syntaxError("expected \":\"") }
      members.append(.init(key: key, value: try reader.readValue()))
      reader.path.components.removeLast()
    }
    return members
  }

  private mutating func readElements() throws(VMCheckpointError) -> [StrictJSONValue] {
    var elements: [StrictJSONValue] = []
    try readList(closedBy: UInt8(ascii: "]")) { reader throws(VMCheckpointError) in
      reader.path.components.append(.index(elements.count))
      elements.append(try reader.readValue())
      reader.path.components.removeLast()
    }
    return elements
  }

  /// Reads an opening bracket, items with commas between them, and the closing bracket.
  private mutating func readList(
    closedBy close: UInt8,
    item readItem: (inout StrictJSONReader) throws(VMCheckpointError) -> Void
  ) throws(VMCheckpointError) {
    guard depth < Self.maximumDepth else {
      throw syntaxError("nested more than \(Self.maximumDepth) levels deep")
    }
    depth += 1
    defer { depth -= 1 }
    position += 1
    skipWhiteSpace()
    if current == close {
      position += 1
      return
    }
    while true {
      skipWhiteSpace()
      try readItem(&self)
      skipWhiteSpace()
      if skip(",") { continue }
      guard current == close else {
        let closeCharacter = Character(Unicode.Scalar(close))
        throw syntaxError("expected \",\" or \"\(closeCharacter)\"")
      }
      position += 1
      return
    }
  }

  private var depth = 0

  private mutating func readNumber() throws(VMCheckpointError) -> StrictJSONValue {
    let isNegative = skip("-")
    let firstDigit = position
    var magnitude: UInt64? = 0
    skipDigits { digit in
      guard let value = magnitude else { return }
      let (product, overflows) = value.multipliedReportingOverflow(by: 10)
      let (sum, carries) = product.addingReportingOverflow(UInt64(digit))
      magnitude = overflows || carries ? nil : sum
    }
    guard position > firstDigit else { throw syntaxError("expected a digit") }
    guard bytes[firstDigit] != UInt8(ascii: "0") || position == firstDigit + 1 else {
      throw syntaxError("a number does not start with 0")
    }
    var isInteger = true
    if skip(".") {
      isInteger = false
      try requireDigits()
    }
    if skip("e") || skip("E") {
      isInteger = false
      if !skip("+") { skip("-") }
      try requireDigits()
    }
    guard isInteger, let magnitude else { return .otherNumber }
    return .integer(isNegative: isNegative, magnitude: magnitude)
  }

  private mutating func requireDigits() throws(VMCheckpointError) {
    let first = position
    skipDigits { _ in }
    guard position > first else { throw syntaxError("expected a digit") }
  }

  private mutating func skipDigits(_ body: (UInt8) -> Void) {
    while let byte = current, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) {
      body(byte - UInt8(ascii: "0"))
      position += 1
    }
  }

  private mutating func skipWhiteSpace() {
    while let byte = current, byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d {
      position += 1
    }
  }

  /// Passes `token` if it comes next.
  @discardableResult
  private mutating func skip(_ token: StaticString) -> Bool {
    let end = position + token.utf8CodeUnitCount
    guard end <= bytes.count else { return false }
    let matches = token.withUTF8Buffer { $0.elementsEqual(bytes[position..<end]) }
    if matches { position = end }
    return matches
  }

  private func syntaxError(_ message: String) -> VMCheckpointError {
    let read = bytes.prefix(position)
    let line = read.count { $0 == 0x0a } + 1
    let lineStart = read.lastIndex(of: 0x0a).map { $0 + 1 } ?? 0
    return path.invalid("\(message) (line \(line), column \(position - lineStart + 1))")
  }
}

// MARK: - Strings

extension StrictJSONReader {
  private mutating func readString() throws(VMCheckpointError) -> String {
    position += 1
    let limit = position + maximumStringByteCount
    var text: [UInt8] = []
    var runStart = position
    while true {
      guard let byte = current else { throw syntaxError("a string has no end") }
      guard position < limit else {
        throw syntaxError("a string of more than \(maximumStringByteCount) bytes")
      }
      switch byte {
      case UInt8(ascii: "\""):
        text += bytes[runStart..<position]
        guard let string = String(validating: text, as: UTF8.self) else {
          throw syntaxError("a string is not valid UTF-8")
        }
        position += 1
        return string
      case UInt8(ascii: "\\"):
        text += bytes[runStart..<position]
        position += 1
        text += String(try readEscape()).utf8
        runStart = position
      case 0..<0x20:
        throw syntaxError("a control character in a string has to be escaped")
      default:
        position += 1
      }
    }
  }

  /// Reads what follows a backslash.
  private mutating func readEscape() throws(VMCheckpointError) -> Unicode.Scalar {
    guard let byte = current else { throw syntaxError("a string has no end") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{c}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): return try readUnicodeEscape()
    default:
      position -= 1
      throw syntaxError("unknown escape in a string")
    }
  }

  /// Reads what follows `\u`: a scalar, or a surrogate and the escape of its other half.
  private mutating func readUnicodeEscape() throws(VMCheckpointError) -> Unicode.Scalar {
    let first = try readFourHexDigits()
    if let scalar = Unicode.Scalar(first) { return scalar }
    guard first < 0xdc00, skip("\\u") else { throw syntaxError("half a surrogate pair") }
    let second = try readFourHexDigits()
    guard (0xdc00...0xdfff).contains(second),
      let scalar = Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00))
    else {
      throw syntaxError("half a surrogate pair")
    }
    return scalar
  }

  private mutating func readFourHexDigits() throws(VMCheckpointError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = current,
        let digit = Character(Unicode.Scalar(byte)).hexDigitValue
      else {
        throw syntaxError("expected four hexadecimal digits")
      }
      value = value << 4 | UInt32(digit)
      position += 1
    }
    return value
  }
}
