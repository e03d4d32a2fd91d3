import Testing
import VMCheckpointCommands

@Suite struct FrequencyTests {
  @Test(
    arguments: [
      ("1", 1), ("2400000000", 2_400_000_000), ("2400M", 2_400_000_000), ("2.4G", 2_400_000_000),
      ("2.4g", 2_400_000_000), ("100k", 100_000), ("0.001K", 1), ("2.399999999G", 2_399_999_999),
      ("9223372036854775807", UInt64(Int64.max)),
    ] as [(String, UInt64)]
  )
  func parsesExactly(text: String, expected: UInt64) throws {
    #expect(try Frequency.parse(text) == expected)
  }

  @Test(arguments: [
    ("", "expected a number of hertz, such as 2400000000 or 2.4G"),
    ("G", "expected a number of hertz, such as 2400000000 or 2.4G"),
    (".5G", "expected a number of hertz, such as 2400000000 or 2.4G"),
    ("2.G", "expected a number of hertz, such as 2400000000 or 2.4G"),
    ("1.2.3G", "expected a number of hertz, such as 2400000000 or 2.4G"),
    ("-1", "expected a number of hertz, such as 2400000000 or 2.4G"),
    ("2.4", "expected a whole number of hertz"),
    ("2.3999999999G", "expected a whole number of hertz"),
    ("1GHz", "unknown unit 'GHz'; use k, M or G (powers of 1000)"),
    ("0x10", "unknown unit 'x10'; use k, M or G (powers of 1000)"),
    ("9223372036854775808", "the frequency is more than 9223372036854775807 Hz"),
    ("99999999999999G", "the frequency is more than 9223372036854775807 Hz"),
    ("0", "a TSC frequency is not 0"),
    ("0.0G", "a TSC frequency is not 0"),
  ])
  func refuses(text: String, message: String) {
    #expect(throws: ArgumentError(message)) { try Frequency.parse(text) }
  }
}
