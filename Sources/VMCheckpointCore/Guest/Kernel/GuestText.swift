/// Text from a guest's memory, made safe to show.
package enum GuestText {
  /// The bytes as UTF-8; what is not valid UTF-8, and control characters, as `\x1b`.
  ///
  /// - Parameter keepingLines: Whether line feeds and tabs stay as they are.
  package static func escaped(_ bytes: some Sequence<UInt8>, keepingLines: Bool = false) -> String {
    let bytes = Array(bytes)
    if bytes.allSatisfy({ (0x20..<0x7f).contains($0) }) {
      return String(decoding: bytes, as: UTF8.self)
    }
    var text = ""
    text.reserveCapacity(bytes.count + 16)
    var decoder = UTF8.ForwardParser()
    var iterator = bytes[...].makeIterator()
    var position = 0
    while true {
      switch decoder.parseScalar(from: &iterator) {
      case .valid(let encoded):
        let scalar = UTF8.decode(encoded)
        position += encoded.count
        if keepingLines && (scalar == "\n" || scalar == "\t") {
          text.unicodeScalars.append(scalar)
        } else if scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value) {
          for byte in encoded { append(byte, to: &text) }
        } else {
          text.unicodeScalars.append(scalar)
        }
      case .error(let length):
        for byte in bytes[position..<min(position + length, bytes.count)] {
          append(byte, to: &text)
        }
        position += length
      case .emptyInput:
        return text
      }
    }
  }

  private static func append(_ byte: UInt8, to text: inout String) {
    let digits = Array("0123456789abcdef".unicodeScalars)
    text += "\\x"
    text.unicodeScalars.append(digits[Int(byte >> 4)])
    text.unicodeScalars.append(digits[Int(byte & 15)])
  }
}
