import Testing
import VMCheckpoint
import VMCheckpointTestSupport

@Suite struct LatencyHistogramTests {
  @Test func aPercentileIsAtMostAnEighthTooHigh() {
    var generator = TestGenerator(seed: 1)
    for round in 0..<50 {
      var histogram = LatencyHistogram()
      #expect(histogram.percentile(0.5) == nil)
      let values = (0..<(round * 7 + 1)).map { _ in
        UInt64(generator.int(0...Int.max)) >> UInt64(generator.int(0...62))
      }
      for value in values { histogram.add(value) }
      let sorted = values.sorted()
      for fraction in [0.0, 0.5, 0.9, 0.99, 1] {
        let rank = max(1, Int((Double(values.count) * fraction).rounded(.up)))
        let exact = sorted[rank - 1]
        let found = histogram.percentile(fraction)!
        #expect(found >= exact && found - exact <= exact / 8)
      }
    }
    var extremes = LatencyHistogram()
    extremes.add(.max)
    #expect(extremes.percentile(1) == .max)
  }
}
