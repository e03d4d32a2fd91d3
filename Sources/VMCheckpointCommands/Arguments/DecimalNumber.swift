/// A plain decimal number.
enum DecimalNumber {
  /// Parses digits only: no sign, no space, no separators.
  static func parse(_ text: some StringProtocol) throws(ArgumentError) -> UInt64 {
    guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
      throw ArgumentError("expected a whole decimal number")
    }
    guard let number = UInt64(text) else {
      throw ArgumentError("the number does not fit 64 bits")
    }
    return number
  }
}
