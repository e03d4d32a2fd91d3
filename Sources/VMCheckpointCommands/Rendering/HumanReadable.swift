/// Numbers as people read them. Programs read the JSON, which has them exactly.
package enum HumanReadable {
  /// `byteCount` in the largest binary unit that gives at least 1: `512 B`, `1.5 GiB`.
  package static func bytes(_ byteCount: UInt64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    guard byteCount >= 1024 else { return "\(byteCount) B" }
    var value = Double(byteCount) / 1024
    var unit = 0
    // What would round to 1024.0 is 1.0 of the next unit.
    while value >= 1023.95, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    return "\(oneDecimal(value)) \(units[unit])"
  }

  /// The bytes of `count` pages.
  package static func pages(_ count: UInt64) -> String {
    bytes(count.multipliedReportingOverflow(by: 4096).partialValue)
  }

  /// `1.5`; rounded to the nearest tenth. What is negative or has no place in an integer is shown as it is.
  package static func oneDecimal(_ value: Double) -> String {
    // Numbers from a damaged store can be of any size.
    guard (0..<1e15).contains(value) else { return "\(value)" }
    let tenths = UInt64((value * 10).rounded())
    return "\(tenths / 10).\(tenths % 10)"
  }

  /// How many times smaller `small` is than `large`: `3.2x`; `nil` where that has no meaning.
  package static func ratio(_ large: UInt64, to small: UInt64) -> String? {
    guard small > 0, large > 0 else { return nil }
    return oneDecimal(Double(large) / Double(small)) + "x"
  }

  /// `part` of `whole`: `31.1%`; `nil` of nothing.
  package static func percentage(_ part: UInt64, of whole: UInt64) -> String? {
    guard whole > 0 else { return nil }
    return oneDecimal(Double(part) / Double(whole) * 100) + "%"
  }

  /// A duration: `0.4 s`, `12 min 05 s`.
  package static func seconds(_ seconds: Double) -> String {
    guard (59.95..<1e15).contains(seconds) else {
      return "\(oneDecimal(seconds < 0 ? 0 : seconds)) s"
    }
    let whole = UInt64(seconds.rounded())
    return "\(whole / 60) min \(twoDigits(whole % 60)) s"
  }

  /// How old something is: `40 s`, `12 min`, `5 h`, `9 d`.
  package static func age(_ seconds: Double) -> String {
    for (unit, length) in [("d", 86400.0), ("h", 3600.0), ("min", 60.0)] where seconds >= 2 * length
    {
      return Int(exactly: (seconds / length).rounded(.towardZero)).map { "\($0) \(unit)" } ?? "-"
    }
    return "\(Int(seconds < 0 ? 0 : seconds)) s"
  }

  /// A duration without the digits below a millisecond, which are noise.
  package static func milliseconds(_ seconds: Double) -> Double {
    (seconds * 1000).rounded() / 1000
  }

  /// A duration in milliseconds, without digits below them: `1234`.
  package static func wholeMilliseconds(_ seconds: Double) -> String {
    let milliseconds = (seconds * 1000).rounded(.towardZero)
    return Int(exactly: milliseconds).map { "\($0)" } ?? "\(milliseconds)"
  }

  /// A duration as a clock shows it: `0:05`, `1:02:03`.
  package static func clock(seconds: UInt64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60)
    let tail = twoDigits(seconds % 60)
    return hours > 0 ? "\(hours):\(twoDigits(minutes)):\(tail)" : "\(minutes):\(tail)"
  }

  /// `1 page`, `2 pages`.
  package static func count(
    _ count: some BinaryInteger,
    _ singular: String,
    _ plural: String? = nil
  )
    -> String
  {
    "\(count) \(count == 1 ? singular : plural ?? singular + "s")"
  }

  /// `0x` and lower-case hexadecimal digits.
  package static func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }

  private static func twoDigits(_ value: UInt64) -> String {
    value < 10 ? "0\(value)" : "\(value)"
  }
}
