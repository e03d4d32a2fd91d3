/// Sizes and addresses: decimal or `0x` hexadecimal, with an optional binary unit.
package enum ByteSize {
  /// Parses such as `4096`, `0x1000`, `3G` and `512MiB`. Units are powers of 1024 in either case.
  package static func parse(_ text: some StringProtocol) throws(ArgumentError) -> UInt64 {
    let isHexadecimal = text.hasPrefix("0x") || text.hasPrefix("0X")
    let body = text.dropFirst(isHexadecimal ? 2 : 0)
    let radix = isHexadecimal ? 16 : 10
    let digits = body.prefix { $0.isASCII && $0.hexDigitValue.map { $0 < radix } == true }
    guard !digits.isEmpty else {
      throw ArgumentError(
        "expected a number, decimal or 0x hexadecimal, with an optional K, M, G or T"
      )
    }
    let shift = try shift(unit: body.dropFirst(digits.count))
    guard let number = UInt64(digits, radix: radix), number <= UInt64.max >> shift else {
      throw ArgumentError("the size does not fit 64 bits")
    }
    return number << shift
  }

  /// The power of two that `unit` stands for.
  private static func shift(unit: some StringProtocol) throws(ArgumentError) -> UInt64 {
    switch unit.lowercased() {
    case "": return 0
    case "k", "kib": return 10
    case "m", "mib": return 20
    case "g", "gib": return 30
    case "t", "tib": return 40
    case let other where other.hasPrefix("."):
      throw ArgumentError("expected a whole number; use a smaller unit")
    default:
      throw ArgumentError(
        "unknown unit '\(unit)'; use K, M, G or T, or KiB, MiB, GiB or TiB (powers of 1024)"
      )
    }
  }
}
