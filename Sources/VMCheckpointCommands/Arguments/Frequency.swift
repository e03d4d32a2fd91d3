/// Frequencies in hertz: whole, or with a decimal unit and then perhaps a fraction.
package enum Frequency {
  /// SQLite's largest integer: what a store can hold.
  static let maximum = UInt64(Int64.max)

  /// Parses such as `2400000000`, `2400M` and `2.4G`. Units are powers of 1000 in either case.
  /// The result is exact: a fraction of a hertz is refused.
  package static func parse(_ text: String) throws(ArgumentError) -> UInt64 {
    let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let parts = digits.split(separator: ".", omittingEmptySubsequences: false)
    guard (1...2).contains(parts.count), parts.allSatisfy({ !$0.isEmpty }) else {
      throw ArgumentError("expected a number of hertz, such as 2400000000 or 2.4G")
    }
    let unit = text.dropFirst(digits.count)
    let zeros: Int
    switch unit.lowercased() {
    case "": zeros = 0
    case "k": zeros = 3
    case "m": zeros = 6
    case "g": zeros = 9
    default: throw ArgumentError("unknown unit '\(unit)'; use k, M or G (powers of 1000)")
    }
    let fraction = parts.count == 2 ? parts[1] : ""
    guard fraction.count <= zeros else {
      throw ArgumentError("expected a whole number of hertz")
    }
    // Moving the decimal point in the text keeps the value exact.
    let padding = String(repeating: "0", count: zeros - fraction.count)
    guard let frequency = UInt64(parts[0] + fraction + padding), frequency <= maximum else {
      throw ArgumentError("the frequency is more than \(maximum) Hz")
    }
    guard frequency > 0 else { throw ArgumentError("a TSC frequency is not 0") }
    return frequency
  }
}
