import Testing
import VMCheckpointCommands

@Suite struct ProgressMeterTests {
  private var meter = ProgressMeter()

  private mutating func read(
    _ phase: String,
    _ done: UInt64,
    of total: UInt64?,
    at milliseconds: Int
  ) -> ProgressReading? {
    meter.read(
      phase: phase,
      completedByteCount: done,
      totalByteCount: total,
      at: .milliseconds(milliseconds)
    )
  }

  @Test mutating func drawsAtMostTenTimesASecond() {
    let drawings = (0..<1000).filter { read("saving", UInt64($0), of: 1000, at: $0) != nil }
    #expect(drawings == [0, 100, 200, 300, 400, 500, 600, 700, 800, 900])
  }

  @Test mutating func aNewPhaseIsDrawnAtOnceAndHasItsOwnRate() {
    _ = read("saving", 0, of: 1000, at: 0)
    #expect(read("saving", 1000, of: 1000, at: 1000)?.bytesPerSecond == 1000)
    let first = read("packing", 500, of: nil, at: 1001)
    #expect(first?.phase == "packing")
    #expect(first?.bytesPerSecond == nil)
    #expect(read("packing", 700, of: nil, at: 2001)?.bytesPerSecond == 200)
  }

  @Test mutating func saysNoRateTooEarly() {
    _ = read("saving", 0, of: 1000, at: 0)
    let early = read("saving", 900, of: 1000, at: 150)
    #expect(early != nil)
    #expect(early?.bytesPerSecond == nil)
  }
}

@Suite struct ProgressReadingTests {
  private func line(
    _ done: UInt64,
    of total: UInt64?,
    rate: Double?,
    columns: Int = 79,
    phase: String = "saving"
  ) -> String {
    ProgressReading(
      phase: phase,
      completedByteCount: done,
      totalByteCount: total,
      bytesPerSecond: rate
    ).line(columnCount: columns)
  }

  @Test func everything() {
    #expect(
      line(430 << 20, of: 1 << 30, rate: 910 * 1_048_576)
        == "saving  41% [========            ] 430.0 MiB of 1.0 GiB, 910.0 MiB/s, ETA 0:01"
    )
  }

  @Test func atTheBeginningAndTheEnd() {
    #expect(
      line(0, of: 1 << 30, rate: nil)
        == "saving   0% [                    ] 0 B of 1.0 GiB"
    )
    #expect(
      line(1 << 30, of: 1 << 30, rate: 1_073_741_824)
        == "saving 100% [====================] 1.0 GiB of 1.0 GiB, 1.0 GiB/s"
    )
  }

  @Test func showsHundredPercentOnlyWhenAllIsDone() {
    #expect(line((1 << 30) - 1, of: 1 << 30, rate: nil).hasPrefix("saving  99%"))
    #expect(line(2 << 30, of: 1 << 30, rate: nil).hasPrefix("saving 100%"))
    #expect(line(0, of: 0, rate: nil).hasPrefix("saving 100%"))
  }

  @Test func ofAnUnknownTotalTheBytesAndTheRate() {
    #expect(line(1 << 20, of: nil, rate: nil) == "saving  1.0 MiB")
    #expect(line(1 << 20, of: nil, rate: 524_288) == "saving  1.0 MiB, 512.0 KiB/s")
  }

  @Test func aNarrowTerminalLosesTheBarFirst() {
    func narrow(_ columns: Int) -> String {
      line(430 << 20, of: 1 << 30, rate: 910 * 1_048_576, columns: columns)
    }
    #expect(narrow(60) == "saving  41% 430.0 MiB of 1.0 GiB, 910.0 MiB/s, ETA 0:01")
    #expect(narrow(50) == "saving  41% 430.0 MiB of 1.0 GiB, 910.0 MiB/s")
    #expect(narrow(40) == "saving  41% 430.0 MiB of 1.0 GiB")
    #expect(narrow(20) == "saving  41% ")
    #expect(narrow(3) == "sav")
    #expect(narrow(0) == "")
    #expect(narrow(-1) == "")
  }

  @Test func neverLongerThanTheTerminal() {
    for columns in 0...200 {
      for total in [nil, 1, 1 << 34] as [UInt64?] {
        for rate in [nil, 1e-9, 1, 1e9, .infinity] as [Double?] {
          let line = line(1 << 33, of: total, rate: rate, columns: columns, phase: "freeing chunks")
          #expect(line.count <= columns)
        }
      }
    }
  }

  @Test func saysNoTimeThatNobodyWaitsFor() {
    #expect(line(1, of: 1 << 40, rate: 1).hasSuffix("1 B of 1.0 TiB, 1 B/s"))
    #expect(line(1 << 20, of: 100 << 20, rate: 1024).hasSuffix("1.0 KiB/s, ETA 28:09:36"))
  }
}
