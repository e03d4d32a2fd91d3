import Testing
import VMCheckpointCommands
import VMCheckpointTestSupport

@Suite struct ByteSizeTests {
  @Test(
    arguments: [
      ("0", 0), ("4096", 4096), ("0x1000", 4096), ("0XfF", 255), ("007", 7),
      ("1k", 1 << 10), ("1K", 1 << 10), ("1KiB", 1 << 10), ("1kib", 1 << 10),
      ("512M", 512 << 20), ("512MiB", 512 << 20), ("3G", 3 << 30), ("3gib", 3 << 30),
      ("2T", 2 << 40), ("2TiB", 2 << 40), ("0x3G", 3 << 30), ("0xBK", 11 << 10),
      ("0xffffffffffffffff", UInt64.max), ("18446744073709551615", UInt64.max),
      ("16777215T", 0xFFFFFF << 40), ("0x100000000", 1 << 32),
    ] as [(String, UInt64)]
  )
  func parses(text: String, expected: UInt64) throws {
    #expect(try ByteSize.parse(text) == expected)
  }

  @Test(arguments: [
    "", "K", "0x", "0xG", "-1", "+1", " 1", "x1", ".5G", "１", "NaN",
  ])
  func refusesWhatIsNoNumber(text: String) {
    #expect(
      throws: ArgumentError(
        "expected a number, decimal or 0x hexadecimal, with an optional K, M, G or T"
      )
    ) { try ByteSize.parse(text) }
  }

  @Test(arguments: [
    ("1KB", "KB"), ("1b", "b"), ("1Gi", "Gi"), ("1 ", " "), ("1_000", "_000"), ("1P", "P"),
    ("12abc", "abc"), ("1,5G", ",5G"), ("1e3", "e3"), ("1K ", "K "), ("0o7", "o7"),
  ])
  func namesTheUnitThatIsUnknown(text: String, unit: String) {
    #expect(
      throws: ArgumentError(
        "unknown unit '\(unit)'; use K, M, G or T, or KiB, MiB, GiB or TiB (powers of 1024)"
      )
    ) { try ByteSize.parse(text) }
  }

  @Test func refusesFractions() {
    #expect(throws: ArgumentError("expected a whole number; use a smaller unit")) {
      try ByteSize.parse("1.5G")
    }
  }

  @Test(arguments: [
    "18446744073709551616", "0x10000000000000000", "16777216T", "17179869184G",
    "99999999999999999999999999", "0xffffffffffffffffK",
  ])
  func refusesOverflow(text: String) {
    #expect(throws: ArgumentError("the size does not fit 64 bits")) { try ByteSize.parse(text) }
  }

  /// Every number and unit either gives exactly the product or, when that overflows, an error.
  @Test func agreesWithMultiplication() {
    var generator = OverlayTestGenerator(seed: 1)
    let units: [(String, UInt64)] = [
      ("", 1), ("K", 1 << 10), ("MiB", 1 << 20), ("g", 1 << 30), ("TiB", 1 << 40),
    ]
    for _ in 0..<2000 {
      let number = generator.next() >> UInt64.random(in: 0...63, using: &generator)
      let (unit, factor) = units[Int.random(in: 0..<units.count, using: &generator)]
      let digits =
        Bool.random(using: &generator) ? "\(number)" : "0x" + String(number, radix: 16)
      let (product, overflow) = number.multipliedReportingOverflow(by: factor)
      #expect((try? ByteSize.parse(digits + unit)) == (overflow ? nil : product))
    }
  }
}
