/// Text from a guest's memory, made safe to show.
package enum GuestText {
  /// The bytes as UTF-8. What is not valid UTF-8, control characters, and what turns text around or is not seen
  /// (such as U+202E), come as `\x1b`, and a backslash as two where it would read as part of that or of two. So no
  /// two texts look the same.
  ///
  /// - Parameter keepingLines: Whether line feeds and tabs stay as they are.
  package static func escaped(_ bytes: some Sequence<UInt8>, keepingLines: Bool = false) -> String {
    let bytes = Array(bytes)
    if bytes.allSatisfy({ (0x20..<0x7f).contains($0) && $0 != 0x5c }) {
      return String(decoding: bytes, as: UTF8.self)
    }
    var text = ""
    text.reserveCapacity(bytes.count + 16)
    var decoder = UTF8.ForwardParser()
    var iterator = bytes[...].makeIterator()
    var position = 0
    // What follows a backslash decides how it is written.
    var isAfterBackslash = false
    func endBackslash(isDoubled: Bool) {
      if isAfterBackslash { text += isDoubled ? "\\\\" : "\\" }
      isAfterBackslash = false
    }
    while true {
      switch decoder.parseScalar(from: &iterator) {
      case .valid(let encoded):
        let scalar = UTF8.decode(encoded)
        position += encoded.count
        if scalar == "\\" {
          endBackslash(isDoubled: true)
          isAfterBackslash = true
        } else if !(keepingLines && (scalar == "\n" || scalar == "\t")), deceives(scalar) {
          endBackslash(isDoubled: true)
          for byte in encoded { append(byte, to: &text) }
        } else {
          endBackslash(isDoubled: scalar == "x")
          text.unicodeScalars.append(scalar)
        }
      case .error(let length):
        endBackslash(isDoubled: true)
        for byte in bytes[position..<min(position + length, bytes.count)] {
          append(byte, to: &text)
        }
        position += length
      case .emptyInput:
        endBackslash(isDoubled: false)
        return text
      }
    }
  }

  /// As for names in messages (`quotedName`).
  private static func deceives(_ scalar: Unicode.Scalar) -> Bool {
    guard scalar.value >= 0x7f else { return scalar.value < 0x20 }
    return switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .unassigned: true
    default: false
    }
  }

  private static func append(_ byte: UInt8, to text: inout String) {
    let digits = Array("0123456789abcdef".unicodeScalars)
    text += "\\x"
    text.unicodeScalars.append(digits[Int(byte >> 4)])
    text.unicodeScalars.append(digits[Int(byte & 15)])
  }
}
