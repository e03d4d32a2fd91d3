/// How often what took how long, in memory that does not grow. A bucket is an eighth of a power of two, so that
/// a percentile is at most an eighth too high.
package struct LatencyHistogram: Sendable {
  private static let stepBits = 3
  private static let stepCount = 1 << stepBits

  private var buckets = [UInt64](repeating: 0, count: (64 - stepBits + 1) * stepCount)
  /// How many values were added.
  package private(set) var count: UInt64 = 0

  package init() {}

  package mutating func add(_ value: UInt64) {
    buckets[Self.bucket(of: value)] += 1
    count += 1
  }

  /// The upper bound of the bucket that `fraction` of all values reach; `nil` without values.
  package func percentile(_ fraction: Double) -> UInt64? {
    guard count > 0 else { return nil }
    let rank = max(1, UInt64((Double(count) * fraction).rounded(.up)))
    var seen: UInt64 = 0
    for (index, number) in buckets.enumerated() {
      seen += number
      if seen >= rank { return Self.upperBound(of: index) }
    }
    return nil
  }

  /// Values below 8 have a bucket each; above, the three bits after the first set one are the step.
  private static func bucket(of value: UInt64) -> Int {
    guard value >= UInt64(stepCount) else { return Int(value) }
    let exponent = 63 - value.leadingZeroBitCount
    let step = Int(value >> UInt64(exponent - stepBits)) & (stepCount - 1)
    return (exponent - stepBits + 1) * stepCount + step
  }

  private static func upperBound(of bucket: Int) -> UInt64 {
    guard bucket >= stepCount else { return UInt64(bucket) }
    let exponent = bucket / stepCount + stepBits - 1
    let step = UInt64(bucket % stepCount)
    let width = UInt64(1) << UInt64(exponent - stepBits)
    return (UInt64(1) << UInt64(exponent)) + step * width + (width - 1)
  }
}
