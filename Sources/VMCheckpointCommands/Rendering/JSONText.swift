import FoundationEssentials

/// JSON as the commands print it: keys sorted, so that equal results are equal texts.
package enum JSONText {
  /// An indented document that ends in a newline.
  package static func document(_ value: some Encodable) -> String {
    indented(compact(value)) + "\n"
  }

  /// One line that ends in a newline.
  static func line(_ value: some Encodable) -> String {
    String(decoding: compact(value), as: UTF8.self) + "\n"
  }

  private static func compact(_ value: some Encodable) -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      return try encoder.encode(value)
    } catch {
      // Only numbers that are infinite or NaN cannot be encoded, and no result has one.
      preconditionFailure("\(type(of: value)) is not JSON: \(error)")
    }
  }

  /// `json`, which has no spaces between its tokens, with one member or element a line.
  ///
  /// Foundation's own `.prettyPrinted` writes a space before each colon and three lines for an
  /// empty array.
  private static func indented(_ json: Data) -> String {
    let bytes = [UInt8](json)
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count * 2)
    var depth = 0
    var isInString = false
    var isEscaped = false

    func breakLine() {
      result.append(UInt8(ascii: "\n"))
      result.append(contentsOf: repeatElement(UInt8(ascii: " "), count: depth * 2))
    }
    for (index, byte) in bytes.enumerated() {
      guard !isInString else {
        result.append(byte)
        isInString = isEscaped || byte != UInt8(ascii: "\"")
        isEscaped = !isEscaped && byte == UInt8(ascii: "\\")
        continue
      }
      switch byte {
      case UInt8(ascii: "\""):
        isInString = true
        result.append(byte)
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        result.append(byte)
        depth += 1
        // In ASCII, the number of a closing bracket is that of the opening one plus two.
        if bytes[index + 1] != byte + 2 { breakLine() }
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        depth -= 1
        if bytes[index - 1] != byte - 2 { breakLine() }
        result.append(byte)
      case UInt8(ascii: ","):
        result.append(byte)
        breakLine()
      case UInt8(ascii: ":"):
        result.append(byte)
        result.append(UInt8(ascii: " "))
      default:
        result.append(byte)
      }
    }
    return String(decoding: result, as: UTF8.self)
  }
}
