/// Bytes in the form of `hexdump -C`.
enum HexDump {
  /// Bounds the text: a line of 78 bytes for each 16.
  static let maximumByteCount = 16 << 20

  static func text(of bytes: UnsafeRawBufferPointer, base: UInt64) -> String {
    var text: [UInt8] = []
    text.reserveCapacity((min(bytes.count, 65536) / 16 + 1) * 80)
    var isRepeating = false
    for start in stride(from: 0, to: bytes.count, by: 16) {
      let line = UnsafeRawBufferPointer(rebasing: bytes[start..<min(start + 16, bytes.count)])
      if start >= 16, line.count == 16, start + 16 < bytes.count,
        line.elementsEqual(bytes[(start - 16)..<start])
      {
        if !isRepeating { text += [UInt8(ascii: "*"), newline] }
        isRepeating = true
        continue
      }
      isRepeating = false
      append(line, at: base &+ UInt64(start), to: &text)
    }
    if text.last == newline { text.removeLast() }
    return String(decoding: text, as: UTF8.self)
  }

  private static func append(
    _ line: UnsafeRawBufferPointer,
    at address: UInt64,
    to text: inout [UInt8]
  ) {
    for shift in stride(from: 60, through: 0, by: -4) {
      text.append(digit(UInt8(truncatingIfNeeded: address >> UInt64(shift)) & 15))
    }
    for column in 0..<16 {
      text.append(space)
      if column % 8 == 0 { text.append(space) }
      if column < line.count {
        text.append(digit(line[column] >> 4))
        text.append(digit(line[column] & 15))
      } else {
        text += [space, space]
      }
    }
    text += [space, space, UInt8(ascii: "|")]
    for byte in line { text.append(printable(byte)) }
    text += [UInt8(ascii: "|"), newline]
  }

  /// `byte` where it is printable ASCII, else a dot.
  static func printable(_ byte: UInt8) -> UInt8 {
    (0x20...0x7e).contains(byte) ? byte : UInt8(ascii: ".")
  }

  private static let space = UInt8(ascii: " ")
  private static let newline = UInt8(ascii: "\n")

  private static func digit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
  }
}
