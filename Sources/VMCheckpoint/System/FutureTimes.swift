/// Finds times of a store that are later than now: a clock was wrong when they were noted, or this machine's is.
package struct FutureTimes: Sendable {
  /// By how many seconds the clocks of two machines that are in order may differ.
  static let toleranceSeconds = 60.0

  private let nowSeconds: Double
  /// The last time that is not later than now.
  private let limit: String

  /// - Parameter nowSeconds: When it is, since 1970.
  package init(nowSeconds: Double) {
    self.nowSeconds = nowSeconds
    limit = UTCTime.text(secondsSince1970: Int(nowSeconds + Self.toleranceSeconds))
  }

  /// By this machine's clock.
  package static var now: FutureTimes { FutureTimes(nowSeconds: UTCTime.nowSecondsSince1970) }

  /// By how many seconds `time` is later than now.
  ///
  /// - Parameter time: As in a store, with milliseconds.
  /// - Returns: `nil` when it is not, or by less than clocks differ, or when it is not a time.
  package func secondsAhead(of time: String) -> Double? {
    // Times sort as text, and nearly all of them are in the past.
    guard time > limit, let seconds = UTCTime.secondsSince1970(time).flatMap(Double.init),
      seconds - nowSeconds > Self.toleranceSeconds
    else { return nil }
    return seconds - nowSeconds
  }
}
