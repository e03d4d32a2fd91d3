import Testing
import VMCheckpointCommands

@Suite struct HumanReadableTests {
  @Test(
    arguments: [
      (0, "0 B"), (1, "1 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"),
      (1_048_524, "1023.9 KiB"), (1_048_525, "1.0 MiB"), (1 << 20, "1.0 MiB"),
      (3 << 30, "3.0 GiB"), (1 << 40, "1.0 TiB"), (1 << 50, "1.0 PiB"),
      (UInt64.max, "16.0 EiB"),
    ] as [(UInt64, String)]
  )
  func bytes(count: UInt64, expected: String) {
    #expect(HumanReadable.bytes(count) == expected)
  }

  @Test(arguments: [
    (0.0, "0.0 s"), (-1.0, "0.0 s"), (0.04, "0.0 s"), (0.05, "0.1 s"), (59.94, "59.9 s"),
    (59.95, "1 min 00 s"), (65.0, "1 min 05 s"), (7261.0, "121 min 01 s"),
  ])
  func seconds(seconds: Double, expected: String) {
    #expect(HumanReadable.seconds(seconds) == expected)
  }

  @Test(
    arguments: [
      (0, "0:00"), (5, "0:05"), (65, "1:05"), (3599, "59:59"), (3600, "1:00:00"),
      (360_000, "100:00:00"),
    ] as [(UInt64, String)]
  )
  func clock(seconds: UInt64, expected: String) {
    #expect(HumanReadable.clock(seconds: seconds) == expected)
  }

  @Test func ratiosAndPercentages() {
    #expect(HumanReadable.ratio(10, to: 4) == "2.5x")
    #expect(HumanReadable.ratio(10, to: 0) == nil)
    #expect(HumanReadable.ratio(0, to: 4) == nil)
    #expect(HumanReadable.percentage(1, of: 3) == "33.3%")
    #expect(HumanReadable.percentage(0, of: 0) == nil)
  }

  @Test func counts() {
    #expect(HumanReadable.count(0, "page") == "0 pages")
    #expect(HumanReadable.count(1, "page") == "1 page")
    #expect(HumanReadable.count(2, "entry", "entries") == "2 entries")
  }

  /// Numbers from a damaged store must not end the program.
  @Test func anyNumberCanBeShown() {
    #expect(HumanReadable.pages(.max) == "16.0 EiB")
    #expect(HumanReadable.ratio(.max, to: 1) == "1.8446744073709552e+19x")
    #expect(HumanReadable.percentage(.max, of: 1) == "1.8446744073709552e+21%")
  }

  /// Nor may durations, which follow from what a stranger's clock shows.
  @Test(arguments: [
    (1e300, "1e+300 s", "1e+303"), (.infinity, "inf s", "inf"), (-.infinity, "0.0 s", "-inf"),
    (.nan, "nan s", "nan"), (-1, "0.0 s", "-1000"), (1.2345, "1.2 s", "1234"),
  ])
  func anyDurationCanBeShown(seconds: Double, text: String, milliseconds: String) {
    #expect(HumanReadable.seconds(seconds) == text)
    #expect(HumanReadable.wholeMilliseconds(seconds) == milliseconds)
  }
}
