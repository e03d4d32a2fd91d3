import Glibc

/// The time as text, without Foundation's formatters.
package enum UTCTime {
  /// ISO 8601 with milliseconds, such as `2026-03-01T09:30:00.125Z`: sorts as text.
  package static var now: String {
    let (parts, milliseconds) = current()
    return "\(date(parts, separator: "-"))T\(clock(parts, separator: ":"))"
      + ".\(padded(milliseconds, 3))Z"
  }

  /// Compact, for names: `20260301T093000Z`.
  package static var nowForNames: String {
    let (parts, _) = current()
    return "\(date(parts, separator: ""))T\(clock(parts, separator: ""))Z"
  }

  /// ISO 8601 in whole seconds, such as `2026-03-01T09:30:00Z`.
  package static func text(secondsSince1970: Int) -> String {
    let (parts, _) = broken(timespec(tv_sec: secondsSince1970, tv_nsec: 0))
    return "\(date(parts, separator: "-"))T\(clock(parts, separator: ":"))Z"
  }

  /// Now, with its fraction.
  package static var nowSecondsSince1970: Double {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  /// The reverse of ``now``, as text with milliseconds; `nil` for what is not such a time.
  package static func secondsSince1970(_ text: String) -> String? {
    let bytes = Array(text.utf8)
    guard bytes.count == 24 else { return nil }
    func number(_ range: Range<Int>) -> Int32? {
      Int32(String(decoding: bytes[range], as: UTF8.self))
    }
    guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10),
      let hour = number(11..<13), let minute = number(14..<16), let second = number(17..<19),
      let millisecond = number(20..<23)
    else { return nil }
    var parts = tm()
    parts.tm_year = year - 1900
    parts.tm_mon = month - 1
    (parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec) = (day, hour, minute, second)
    return "\(timegm(&parts)).\(padded(Int(millisecond), 3))"
  }

  private static func current() -> (tm, Int) {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return broken(time)
  }

  private static func broken(_ time: timespec) -> (tm, Int) {
    var time = time
    var parts = tm()
    gmtime_r(&time.tv_sec, &parts)
    return (parts, time.tv_nsec / 1_000_000)
  }

  private static func date(_ parts: tm, separator: String) -> String {
    [
      padded(Int(parts.tm_year) + 1900, 4), padded(Int(parts.tm_mon) + 1, 2),
      padded(Int(parts.tm_mday), 2),
    ].joined(separator: separator)
  }

  private static func clock(_ parts: tm, separator: String) -> String {
    [parts.tm_hour, parts.tm_min, parts.tm_sec].map { padded(Int($0), 2) }
      .joined(separator: separator)
  }

  private static func padded(_ number: Int, _ width: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }
}
