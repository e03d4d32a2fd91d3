/// For how long a VM's first touches are recorded.
enum WorkingSetSeconds {
  /// A set of what is touched in more than an hour is no start any more.
  private static let maximum = 3600.0

  /// Parses such as `5` and `0.5`.
  static func parse(_ text: String) throws(ArgumentError) -> Double {
    guard text.utf8.count <= 16,
      text.utf8.allSatisfy({ (0x30...0x39).contains($0) || $0 == UInt8(ascii: ".") }),
      let seconds = Double(text), seconds <= maximum
    else { throw ArgumentError("expected seconds from 0 to 3600, such as 5 or 0.5") }
    return seconds
  }
}
