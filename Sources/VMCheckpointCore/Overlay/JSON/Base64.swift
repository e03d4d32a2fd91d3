/// Base64 of RFC 4648, section 4, in one spelling only: padded, no line breaks, and no bits set
/// behind the last byte, so that decoding and encoding are inverses.
package enum Base64 {
  /// A string that is not base64.
  package struct InvalidCharacter: Error {
    /// Which byte of the string is wrong, from 0. The string's length when it ends too early.
    package var offset: Int
  }

  private static let alphabet = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8
  )

  private static let padding = UInt8(ascii: "=")

  private static let notInAlphabet: UInt8 = 0xff

  /// From an ASCII byte to its six bits, or ``notInAlphabet``.
  private static let values: [UInt8] = {
    var values = [UInt8](repeating: notInAlphabet, count: 256)
    for (value, character) in alphabet.enumerated() {
      values[Int(character)] = UInt8(value)
    }
    return values
  }()

  package static func encode(_ bytes: [UInt8]) -> String {
    let alphabet = Self.alphabet
    let length = (bytes.count + 2) / 3 * 4
    return String(unsafeUninitializedCapacity: length) { characters in
      var index = 0
      for position in stride(from: 0, to: length, by: 4) {
        let count = min(3, bytes.count - index)
        var bits = UInt32(bytes[index]) << 16
        if count > 1 { bits |= UInt32(bytes[index + 1]) << 8 }
        if count > 2 { bits |= UInt32(bytes[index + 2]) }
        characters[position] = alphabet[Int(bits >> 18)]
        characters[position + 1] = alphabet[Int(bits >> 12) & 0x3f]
        characters[position + 2] = count > 1 ? alphabet[Int(bits >> 6) & 0x3f] : padding
        characters[position + 3] = count > 2 ? alphabet[Int(bits) & 0x3f] : padding
        index += 3
      }
      return length
    }
  }

  package static func decode(_ string: String) throws(InvalidCharacter) -> [UInt8] {
    let characters = Array(string.utf8)
    guard characters.count % 4 == 0 else {
      throw InvalidCharacter(
        offset: characters.firstIndex { values[Int($0)] == notInAlphabet } ?? characters.count
      )
    }
    let paddingCount = characters.suffix(2).count { $0 == padding }
    let digitCount = characters.count - paddingCount
    var bytes: [UInt8] = []
    bytes.reserveCapacity(characters.count / 4 * 3)
    var bits: UInt32 = 0
    for offset in 0..<digitCount {
      let value = values[Int(characters[offset])]
      guard value != notInAlphabet else { throw InvalidCharacter(offset: offset) }
      bits = bits << 6 | UInt32(value)
      if offset % 4 == 3 {
        bytes.append(UInt8(truncatingIfNeeded: bits >> 16))
        bytes.append(UInt8(truncatingIfNeeded: bits >> 8))
        bytes.append(UInt8(truncatingIfNeeded: bits))
        bits = 0
      }
    }
    // One padding character: 18 bits hold two bytes. Two: 12 bits hold one.
    switch paddingCount {
    case 1:
      guard bits & 0b11 == 0 else { throw InvalidCharacter(offset: digitCount - 1) }
      bytes.append(UInt8(truncatingIfNeeded: bits >> 10))
      bytes.append(UInt8(truncatingIfNeeded: bits >> 2))
    case 2:
      guard bits & 0b1111 == 0 else { throw InvalidCharacter(offset: digitCount - 1) }
      bytes.append(UInt8(truncatingIfNeeded: bits >> 4))
    default:
      break
    }
    return bytes
  }
}
