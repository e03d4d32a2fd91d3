import Glibc

/// Times as servers write them, in seconds since 1970.
package enum ServerTime {
  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]

  /// A header's date, such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7); `nil` for another form.
  package static func seconds(header text: some StringProtocol) -> Int64? {
    let bytes = Array(text.utf8)
    guard bytes.count == 29, bytes[3] == UInt8(ascii: ","), bytes[4] == 32, bytes[7] == 32,
      bytes[11] == 32, bytes[16] == 32, bytes[19] == UInt8(ascii: ":"),
      bytes[22] == UInt8(ascii: ":"), bytes[25...].elementsEqual(" GMT".utf8),
      let month = months.firstIndex(of: String(decoding: bytes[8..<11], as: UTF8.self))
    else { return nil }
    return seconds(
      year: number(bytes[12..<16]),
      month: month + 1,
      day: number(bytes[5..<7]),
      hour: number(bytes[17..<19]),
      minute: number(bytes[20..<22]),
      second: number(bytes[23..<25])
    )
  }

  /// A listing's time, such as `2026-11-28T12:34:56.789Z`: the fraction is cut off. `nil` for another form.
  package static func seconds(listing text: some Collection<UInt8>) -> Int64? {
    let bytes = Array(text)
    guard (20...40).contains(bytes.count), bytes[4] == UInt8(ascii: "-"),
      bytes[7] == UInt8(ascii: "-"), bytes[10] == UInt8(ascii: "T"),
      bytes[13] == UInt8(ascii: ":"), bytes[16] == UInt8(ascii: ":"),
      bytes.last == UInt8(ascii: "Z")
    else { return nil }
    let fraction = bytes[19..<(bytes.count - 1)]
    if let first = fraction.first {
      guard first == UInt8(ascii: "."), fraction.count > 1, number(fraction.dropFirst()) != nil
      else { return nil }
    }
    return seconds(
      year: number(bytes[0..<4]),
      month: number(bytes[5..<7]),
      day: number(bytes[8..<10]),
      hour: number(bytes[11..<13]),
      minute: number(bytes[14..<16]),
      second: number(bytes[17..<19])
    )
  }

  /// Such as `20130524T000000Z`.
  package static func compactText(_ seconds: Int64) -> String {
    var time = time_t(seconds)
    var parts = tm()
    gmtime_r(&time, &parts)
    func padded(_ number: Int32, _ width: Int) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
    return padded(parts.tm_year + 1900, 4) + padded(parts.tm_mon + 1, 2) + padded(parts.tm_mday, 2)
      + "T" + padded(parts.tm_hour, 2) + padded(parts.tm_min, 2) + padded(parts.tm_sec, 2) + "Z"
  }

  /// Digits alone, at most 18 of them.
  package static func number(_ digits: some Collection<UInt8>) -> Int? {
    guard (1...18).contains(digits.count) else { return nil }
    var value = 0
    for digit in digits {
      guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
      value = value * 10 + Int(digit - UInt8(ascii: "0"))
    }
    return value
  }

  private static func seconds(
    year: Int?,
    month: Int?,
    day: Int?,
    hour: Int?,
    minute: Int?,
    second: Int?
  ) -> Int64? {
    guard let year, let month, let day, let hour, let minute, let second, year >= 1970,
      (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60, second <= 60
    else { return nil }
    var parts = tm()
    parts.tm_year = Int32(year - 1900)
    parts.tm_mon = Int32(month - 1)
    parts.tm_mday = Int32(day)
    parts.tm_hour = Int32(hour)
    parts.tm_min = Int32(minute)
    parts.tm_sec = Int32(second)
    return Int64(timegm(&parts))
  }
}
