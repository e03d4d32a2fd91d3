/// The name of an object of a remote: 128 random bits, never given twice.
package struct RemoteID: Sendable, Hashable, Comparable, CustomStringConvertible {
  package static let byteCount = 16

  private let high: UInt64
  private let low: UInt64

  /// A new one, by the kernel's generator.
  package init() {
    var generator = SystemRandomNumberGenerator()
    (high, low) = (generator.next(), generator.next())
  }

  /// From 32 lower-case hexadecimal digits; `nil` for anything else.
  package init?(_ text: some StringProtocol) {
    guard text.utf8.count == 32,
      text.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }),
      let high = UInt64(text.prefix(16), radix: 16), let low = UInt64(text.suffix(16), radix: 16)
    else { return nil }
    (self.high, self.low) = (high, low)
  }

  init(_ reader: inout ByteReader) throws(VMCheckpointError) {
    high = try reader.big64()
    low = try reader.big64()
  }

  func append(to writer: inout ByteWriter) {
    writer.big64(high)
    writer.big64(low)
  }

  /// 32 lower-case hexadecimal digits.
  package var description: String {
    [high, low].map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }

  package static func < (first: Self, second: Self) -> Bool {
    (first.high, first.low) < (second.high, second.low)
  }
}
