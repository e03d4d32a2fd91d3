/// Reads the small part of XML that object stores answer in: elements, text, and the five entities and numbers of
/// characters in it. Attributes are passed over. Anything else, as a document type, ends the reading.
///
/// What a server sends may be anything, so depth and the length of names and texts are bounded.
package struct XMLScanner {
  /// What comes next in a document.
  package enum Event: Sendable, Hashable {
    case start(String)
    /// Text, decoded. That between elements comes too.
    case text([UInt8])
    case end(String)
  }

  /// The document is not well-formed, or beyond what a server's answer needs.
  package struct Malformed: Error {}

  package static let maximumDepth = 16
  package static let maximumNameByteCount = 64
  package static let maximumTextByteCount = 16 << 10

  private let bytes: [UInt8]
  private var position = 0
  private var open: [String] = []
  /// The end of an element that has no contents, as in `<Prefix/>`.
  private var pendingEnd: String?
  private var sawRoot = false

  package init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// The next event; `nil` at the end of a whole document.
  package mutating func next() throws(Malformed) -> Event? {
    if let name = pendingEnd {
      pendingEnd = nil
      return .end(name)
    }
    while position < bytes.count {
      if bytes[position] != UInt8(ascii: "<") {
        let text = try text()
        // Around the root there is nothing but space.
        if !open.isEmpty { return .text(text) }
        guard text.allSatisfy({ [9, 10, 13, 32].contains($0) }) || isByteOrderMark(text) else {
          throw Malformed()
        }
        continue
      }
      position += 1
      switch peek() {
      case UInt8(ascii: "?"):
        try skip(past: "?>")
        continue
      case UInt8(ascii: "/"):
        position += 1
        let name = try name()
        skipSpace()
        guard take(UInt8(ascii: ">")), open.popLast() == name else { throw Malformed() }
        return .end(name)
      default: return try start()
      }
    }
    guard open.isEmpty, sawRoot else { throw Malformed() }
    return nil
  }

  /// The text of the element whose start came last, which has no elements in it.
  package mutating func textOfElement() throws(Malformed) -> [UInt8] {
    var text: [UInt8] = []
    while true {
      switch try next() {
      case .text(let part):
        guard text.count + part.count <= Self.maximumTextByteCount else { throw Malformed() }
        text += part
      case .end: return text
      case .start, nil: throw Malformed()
      }
    }
  }

  /// Passes over the rest of the element whose start came last.
  package mutating func skipElement() throws(Malformed) {
    var depth = 1
    while depth > 0 {
      switch try next() {
      case .start: depth += 1
      case .end: depth -= 1
      case .text: continue
      case nil: throw Malformed()
      }
    }
  }

  private mutating func start() throws(Malformed) -> Event {
    let name = try name()
    guard open.count < Self.maximumDepth, !(open.isEmpty && sawRoot) else { throw Malformed() }
    sawRoot = true
    // Attributes, such as the name space.
    while true {
      let hadSpace = skipSpace()
      if take(UInt8(ascii: ">")) {
        open.append(name)
        return .start(name)
      }
      if take(UInt8(ascii: "/")) {
        guard take(UInt8(ascii: ">")) else { throw Malformed() }
        pendingEnd = name
        return .start(name)
      }
      guard hadSpace else { throw Malformed() }
      _ = try self.name()
      skipSpace()
      guard take(UInt8(ascii: "=")) else { throw Malformed() }
      skipSpace()
      guard let quote = peek(), quote == UInt8(ascii: "\"") || quote == UInt8(ascii: "'") else {
        throw Malformed()
      }
      position += 1
      let begin = position
      while let byte = peek(), byte != quote {
        guard byte != UInt8(ascii: "<"), position - begin < Self.maximumTextByteCount else {
          throw Malformed()
        }
        position += 1
      }
      guard take(quote) else { throw Malformed() }
    }
  }

  private mutating func text() throws(Malformed) -> [UInt8] {
    var text: [UInt8] = []
    while let byte = peek(), byte != UInt8(ascii: "<") {
      guard text.count < Self.maximumTextByteCount else { throw Malformed() }
      position += 1
      if byte == UInt8(ascii: "&") {
        text += try reference()
      } else {
        text.append(byte)
      }
    }
    return text
  }

  /// What `&amp;` and `&#38;` stand for.
  private mutating func reference() throws(Malformed) -> [UInt8] {
    let begin = position
    while let byte = peek(), byte != UInt8(ascii: ";") {
      guard position - begin < 10 else { throw Malformed() }
      position += 1
    }
    let name = bytes[begin..<position]
    guard take(UInt8(ascii: ";")) else { throw Malformed() }
    switch String(decoding: name, as: UTF8.self) {
    case "amp": return [UInt8(ascii: "&")]
    case "lt": return [UInt8(ascii: "<")]
    case "gt": return [UInt8(ascii: ">")]
    case "quot": return [UInt8(ascii: "\"")]
    case "apos": return [UInt8(ascii: "'")]
    case let text:
      guard text.first == "#" else { throw Malformed() }
      let digits = text.dropFirst()
      let number =
        digits.first == "x"
        ? UInt32(digits.dropFirst(), radix: 16) : UInt32(digits, radix: 10)
      guard let number, let scalar = Unicode.Scalar(number) else { throw Malformed() }
      return Array(String(scalar).utf8)
    }
  }

  private mutating func name() throws(Malformed) -> String {
    let begin = position
    while let byte = peek(), Self.isNameByte(byte) {
      guard position - begin < Self.maximumNameByteCount else { throw Malformed() }
      position += 1
    }
    guard position > begin else { throw Malformed() }
    return String(decoding: bytes[begin..<position], as: UTF8.self)
  }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: ":"), UInt8(ascii: "-"),
      UInt8(ascii: "_"), UInt8(ascii: "."):
      true
    default: false
    }
  }

  private func peek() -> UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard peek() == byte else { return false }
    position += 1
    return true
  }

  @discardableResult
  private mutating func skipSpace() -> Bool {
    let begin = position
    while let byte = peek(), [9, 10, 13, 32].contains(byte) { position += 1 }
    return position > begin
  }

  private mutating func skip(past end: StaticString) throws(Malformed) {
    let end = Array(end.description.utf8)
    let begin = position
    while position + end.count <= bytes.count, position - begin < 1024 {
      if bytes[position..<position + end.count].elementsEqual(end) {
        position += end.count
        return
      }
      position += 1
    }
    throw Malformed()
  }

  private func isByteOrderMark(_ text: [UInt8]) -> Bool { text == [0xEF, 0xBB, 0xBF] && !sawRoot }
}
