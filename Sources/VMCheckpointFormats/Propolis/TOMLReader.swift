import VMCheckpoint

/// Reads TOML as far as one integer in it asks for: the rest is passed over, checked only so far that
/// what is found is what TOML means. A library's parser of all of TOML stopped the process on some
/// texts that are none.
struct TOMLReader {
  /// Arrays and inline tables within each other; deeper is refused.
  static let maximumDepth = 64

  private let bytes: [UInt8]
  private let wanted: [String]
  private var position = 0
  private var table: [String] = []
  private var found: Int64?
  private var hasFound = false

  /// The integer whose key, with those of the tables around it, is `path`; `nil` when there is none.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData` that tells the line, from 1, of what
  ///   is no TOML, or of a second value for the key.
  static func integer(
    at path: [String],
    in bytes: [UInt8]
  ) throws(VMCheckpointError) -> Int64? {
    var reader = TOMLReader(bytes: bytes, wanted: path)
    if bytes.starts(with: [0xef, 0xbb, 0xbf]) { reader.position = 3 }
    try reader.readDocument()
    return reader.found
  }

  private init(bytes: [UInt8], wanted: [String]) {
    self.bytes = bytes
    self.wanted = wanted
  }

  private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

  private func isNext(_ text: StaticString) -> Bool {
    text.withUTF8Buffer { bytes.dropFirst(position).starts(with: $0) }
  }

  private var invalid: VMCheckpointError {
    let line = bytes.prefix(position).count { $0 == Self.newline } + 1
    return .invalidData("is not TOML: line \(line)")
  }

  // MARK: Lines

  private mutating func readDocument() throws(VMCheckpointError) {
    while true {
      try skipLines()
      guard let byte = current else { return }
      if byte == UInt8(ascii: "[") {
        try readHeader()
      } else {
        try readPair(in: table, depth: 0)
      }
      skipBlanks()
      try skipComment()
      guard current == nil || isAtLineEnd else { throw invalid }
    }
  }

  private mutating func readHeader() throws(VMCheckpointError) {
    let isArray = isNext("[[")
    position += isArray ? 2 : 1
    table = try readKey()
    try skip("]")
    guard isArray else { return }
    try skip("]")
    // A key that no document has: which of the array's tables is meant, nobody could say.
    table.append("\u{0}")
  }

  private mutating func readPair(in table: [String], depth: Int) throws(VMCheckpointError) {
    let start = position
    let key = table + (try readKey())
    try skip("=")
    skipBlanks()
    let value = try readValue(key, depth: depth)
    guard key == wanted else { return }
    guard !hasFound else {
      position = start
      throw invalid
    }
    (found, hasFound) = (value, true)
  }

  // MARK: Keys

  private mutating func readKey() throws(VMCheckpointError) -> [String] {
    var parts: [String] = []
    repeat {
      skipBlanks()
      parts.append(try readKeyPart())
      skipBlanks()
    } while skipped(UInt8(ascii: "."))
    return parts
  }

  private mutating func readKeyPart() throws(VMCheckpointError) -> String {
    let start = position
    if let quote = current, quote == Self.quotationMark || quote == Self.apostrophe {
      let text = try readString(quote)
      // A key with escapes is another way to write one that needs none, and would hide it.
      guard quote == Self.apostrophe || !text.contains(Self.backslash) else {
        position = start
        throw invalid
      }
      return String(decoding: text, as: UTF8.self)
    }
    while let byte = current, Self.isBareKeyByte(byte) { position += 1 }
    guard position > start else { throw invalid }
    return String(decoding: bytes[start..<position], as: UTF8.self)
  }

  private static func isBareKeyByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
      true
    default: false
    }
  }

  // MARK: Values

  /// - Returns: The value, if it is an integer.
  private mutating func readValue(_ key: [String], depth: Int) throws(VMCheckpointError) -> Int64? {
    guard depth < Self.maximumDepth else { throw invalid }
    switch current {
    case Self.quotationMark: try skipText(Self.quotationMark, isMultiline: isNext("\"\"\""))
    case Self.apostrophe: try skipText(Self.apostrophe, isMultiline: isNext("'''"))
    case UInt8(ascii: "["): try readArray(depth: depth)
    case UInt8(ascii: "{"): try readInlineTable(key, depth: depth)
    default: return try readWord()
    }
    return nil
  }

  private mutating func readArray(depth: Int) throws(VMCheckpointError) {
    position += 1
    while true {
      try skipLines()
      if skipped(UInt8(ascii: "]")) { return }
      // Whatever is in an array has no name, and so none that is wanted.
      _ = try readValue(["\u{0}"], depth: depth + 1)
      try skipLines()
      guard skipped(UInt8(ascii: ",")) else { return try skip("]") }
    }
  }

  private mutating func readInlineTable(
    _ key: [String],
    depth: Int
  ) throws(VMCheckpointError) {
    position += 1
    skipBlanks()
    if skipped(UInt8(ascii: "}")) { return }
    repeat { try readPair(in: key, depth: depth + 1) } while skippedComma()
    try skip("}")
  }

  private mutating func skippedComma() -> Bool {
    skipBlanks()
    return skipped(UInt8(ascii: ","))
  }

  /// A number, a truth value, or a date and time.
  private mutating func readWord() throws(VMCheckpointError) -> Int64? {
    let start = position
    while let byte = current, Self.isWordByte(byte) { position += 1 }
    let word = String(decoding: bytes[start..<position], as: UTF8.self)
    guard let first = word.utf8.first else { throw invalid }
    let isNumeric =
      (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) || first == UInt8(ascii: "+")
      || first == UInt8(ascii: "-")
    guard isNumeric || ["true", "false", "inf", "nan"].contains(word) else {
      position = start
      throw invalid
    }
    // A date may have a space before its time.
    if word.utf8.count == 10, word.dropFirst(4).first == "-", current == UInt8(ascii: " "),
      position + 1 < bytes.count,
      (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[position + 1])
    {
      position += 1
      while let byte = current, Self.isWordByte(byte) { position += 1 }
    }
    return Self.integer(word)
  }

  private static func isWordByte(_ byte: UInt8) -> Bool {
    isBareKeyByte(byte) || byte == UInt8(ascii: "+") || byte == UInt8(ascii: ".")
      || byte == UInt8(ascii: ":")
  }

  private static func integer(_ word: String) -> Int64? {
    var digits = word[...]
    var radix = 10
    for (prefix, base) in [("0x", 16), ("0o", 8), ("0b", 2)] where word.hasPrefix(prefix) {
      digits = word.dropFirst(2)
      radix = base
      guard digits.first != "+", digits.first != "-" else { return nil }
    }
    // Underscores stand between digits.
    let parts = digits.split(separator: "_", omittingEmptySubsequences: false)
    guard !parts.contains(""), digits.last != "_" else { return nil }
    let plain = parts.joined()
    let unsigned = plain.drop { $0 == "+" || $0 == "-" }
    guard radix != 10 || unsigned == "0" || !unsigned.hasPrefix("0") else { return nil }
    return Int64(plain, radix: radix)
  }

  // MARK: Strings

  /// A string on one line; returns what is between its quotation marks, as it is written.
  private mutating func readString(_ quote: UInt8) throws(VMCheckpointError) -> ArraySlice<UInt8> {
    position += 1
    let start = position
    while let byte = current {
      if byte == quote {
        position += 1
        return bytes[start..<(position - 1)]
      }
      guard Self.isTextByte(byte) else { throw invalid }
      position += 1
      // What is escaped ends nothing, but the line.
      if byte == Self.backslash, quote == Self.quotationMark, let next = current,
        Self.isTextByte(next)
      {
        position += 1
      }
    }
    throw invalid
  }

  private mutating func skipText(
    _ quote: UInt8,
    isMultiline: Bool
  ) throws(VMCheckpointError) {
    guard isMultiline else {
      _ = try readString(quote)
      return
    }
    position += 3
    var quoteCount = 0
    while let byte = current {
      // Up to two quotation marks may stand before the three that end it.
      if byte != quote, quoteCount >= 3 { return }
      quoteCount = byte == quote ? quoteCount + 1 : 0
      guard quoteCount <= 5, Self.isTextByte(byte) || byte == Self.newline || byte == 0x0d else {
        throw invalid
      }
      position += byte == Self.backslash && quote == Self.quotationMark ? 2 : 1
    }
    guard quoteCount >= 3, position == bytes.count else { throw invalid }
  }

  /// Bytes of UTF-8 but for control characters.
  private static func isTextByte(_ byte: UInt8) -> Bool {
    byte >= 0x20 && byte != 0x7f || byte == UInt8(ascii: "\t")
  }

  // MARK: Space

  private static let newline = UInt8(ascii: "\n")
  private static let quotationMark = UInt8(ascii: "\"")
  private static let apostrophe = UInt8(ascii: "'")
  private static let backslash = UInt8(ascii: "\\")

  private var isAtLineEnd: Bool { current == Self.newline || isNext("\r\n") }

  private mutating func skipBlanks() {
    while current == UInt8(ascii: " ") || current == UInt8(ascii: "\t") { position += 1 }
  }

  /// Blank lines, and comments with their ends.
  private mutating func skipLines() throws(VMCheckpointError) {
    while true {
      skipBlanks()
      try skipComment()
      guard isAtLineEnd else { return }
      position += current == Self.newline ? 1 : 2
    }
  }

  private mutating func skipComment() throws(VMCheckpointError) {
    guard current == UInt8(ascii: "#") else { return }
    while let byte = current, !isAtLineEnd {
      guard Self.isTextByte(byte) else { throw invalid }
      position += 1
    }
  }

  private mutating func skipped(_ byte: UInt8) -> Bool {
    guard current == byte else { return false }
    position += 1
    return true
  }

  private mutating func skip(_ character: Unicode.Scalar) throws(VMCheckpointError) {
    skipBlanks()
    guard skipped(UInt8(ascii: character)) else { throw invalid }
  }
}
