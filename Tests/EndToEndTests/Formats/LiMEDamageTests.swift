import Testing
import VMCheckpointTestSupport

/// A capture that is damaged or hostile is refused in one line that says what and where, and leaves no store
/// behind.
@Suite struct LiMEDamageTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var message: String
    /// Whether a pipe, which is read in one pass, gives another message.
    var differsInPipe = false
    var make: @Sendable () -> [UInt8]

    init(_ name: String, _ message: String, _ make: @escaping @Sendable () -> [UInt8]) {
      testDescription = name
      self.message = message
      self.make = make
    }

    /// The sample with another range.
    static func changed(
      _ name: String,
      _ message: String,
      differsInPipe: Bool = false,
      _ change: @escaping @Sendable (inout RangeCaptureBuilder) -> Void
    ) -> Case {
      var result = Case(name, message) {
        var capture = sample
        change(&capture)
        return capture.bytes
      }
      result.differsInPipe = differsInPipe
      return result
    }

    static func cut(_ name: String, _ message: String, at byteCount: Int) -> Case {
      Case(name, "is cut short \(message); wait until it is written, or copy it again") {
        Array(sample.bytes[..<byteCount])
      }
    }
  }

  static var sample: RangeCaptureBuilder {
    var capture = RangeCaptureBuilder()
    capture.plain(0x1000, Array(sampleRAM(2).prefix(7000)))
    capture.plain(0x10_0000, sampleRAM(2, seed: 2))
    return capture
  }

  static let files: [Case] = [
    .cut("nothing but a magic", "in the header of range 1", at: 4),
    .cut("cut in the first header", "in the header of range 1", at: 31),
    .cut("cut before RAM", "in range 1 at GPA 0x1000", at: 32),
    .cut("cut in RAM", "in range 1 at GPA 0x1000", at: 5000),
    .cut("cut in the second header", "in the header of range 2", at: 32 + 7000 + 5),
    .cut("cut in the last page", "in range 2 at GPA 0x100000", at: 32 + 7000 + 32 + 8191),
    .changed("another version", rangeVersion) { $0.blocks[1].version = 2 },
    .changed(
      "AVML's range",
      "has a range of AVML at offset 7032; write avml:PATH, which reads both"
    ) { $0.blocks[1].magic = "AVML" },
    .changed(
      "no range",
      "is damaged: what follows range 1, at offset 7032, is not a range's header"
    ) { $0.blocks[1].magic = "EMiX" },
    .changed(
      "bytes behind the last range",
      "is damaged: what follows range 2, at offset 15256, is not a range's header"
    ) {
      $0.plain(0x20_0000, sampleRAM(1)); $0.blocks[2].magic = "\0\0\0\0"
    },
    .changed(
      "an end before the beginning",
      "is damaged: range 2 begins at GPA 0x100000 and ends before it, at 0xfffff"
    ) { $0.blocks[1].last = 0xfffff },
    .changed(
      "an end at the end of 64 bits",
      "is damaged: range 2 at GPA 0x100000 ends beyond 52-bit physical addresses, at 0xffffffffffffffff"
    ) { $0.blocks[1].last = .max },
    .changed(
      "all of 64 bits",
      "is damaged: range 1 at GPA 0x0 ends beyond 52-bit physical addresses, at 0xffffffffffffffff"
    ) {
      $0.blocks[0].gpa = 0
      $0.blocks[0].last = .max
    },
    .changed(
      "a beginning at the end of 64 bits",
      "is damaged: range 2 at GPA 0xfffffffffffff000 ends beyond 52-bit physical addresses, at "
        + "0xffffffffffffffff"
    ) {
      $0.blocks[1].gpa = .max - 4095
      $0.blocks[1].last = .max
    },
    .changed(
      "a range of 52 bits",
      "is cut short in range 2 at GPA 0x100000; wait until it is written, or copy it again"
    ) { $0.blocks[1].last = 1 << 52 - 1 },
    .changed(
      "ranges that overlap",
      "is damaged: range 1 and range 2 both hold GPA 0x2000",
      differsInPipe: true
    ) { $0.blocks[1].gpa = 0x2000 },
    .changed(
      "the same range twice",
      "is damaged: range 1 and range 3 both hold GPA 0x1000",
      differsInPipe: true
    ) { $0.blocks.append($0.blocks[0]) },
    .changed(
      "ranges that overlap in one byte",
      "is damaged: range 1 and range 2 both hold GPA 0x2b57",
      differsInPipe: true
    ) { $0.blocks[1].gpa = 0x2b57 },
    .changed(
      "RAM in too many places",
      "has RAM in 1027 places, and at most 1024 can be stored",
      differsInPipe: true
    ) {
      for index in 1...1025 { $0.plain(UInt64(index) << 24, [1]) }
    },
  ]

  private static let rangeVersion =
    "has a range of LiME's version 2, and only 1 can be read: it is range 2, at offset 7032"

  private let bench: Workbench

  init() throws { bench = try Workbench() }

  @Test(arguments: files)
  func aDamagedCaptureIsRefusedAndNothingIsStored(damage: Case) throws {
    let path = try bench.write("x.lime", damage.make())
    let before = bench.directory.entries
    expectFailure(
      try bench.tool.run("save", path),
      65,
      "LiME capture \"\(path)\" \(damage.message)"
    )
    #expect(bench.directory.entries == before)
  }

  @Test(arguments: files)
  func aDamagedCaptureFromAPipeIsRefused(damage: Case) throws {
    let path = try bench.write("x.lime", damage.make())
    let outcome = try bench.tool.run("save", "lime:-", "--name", "x", input: .file(path))
    if damage.differsInPipe {
      #expect(outcome.ending == .exit(65), "\(outcome)")
      #expect(outcome.standardError.split(separator: "\n").count == 1)
    } else {
      expectFailure(outcome, 65, "LiME capture \"stdin\" \(damage.message)")
    }
    #expect(try !bench.tool.run("show", "x").succeeded)
    #expect(bench.leftovers.isEmpty)
  }

  /// As RAM it would restore to headers in the guest's pages.
  @Test func aCaptureFromAPipeIsToldHowToBeRead() throws {
    let path = try bench.write("x", Self.sample.bytes)
    let outcome = try bench.tool.run("save", "-", input: .file(path))
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.contains("write lime:- as SOURCE"), "\(outcome)")
  }

  /// Whatever a byte of the headers becomes, the command ends in order.
  @Test func anyByteOfAHeaderMayBeWrong() throws {
    let bytes = Self.sample.bytes
    for offset in (4..<32).map({ $0 }) + (7032..<7064) {
      var damaged = bytes
      damaged[offset] ^= 0xff
      let path = try bench.write("x.lime", damaged)
      let outcome = try bench.tool.run("save", path)
      #expect(outcome.endedOrderly, "byte \(offset): \(outcome)")
    }
  }
}
