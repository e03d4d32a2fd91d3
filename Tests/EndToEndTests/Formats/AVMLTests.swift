import Foundation
import Testing
import VMCheckpointTestSupport

/// A capture of AVML leaves blocks of zeros out and compresses the rest: what comes out must be the guest.
@Suite struct AVMLTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private func regions(_ name: String) throws -> [String] {
    let regions = try bench.tool.json("show", name)["memory_regions"] as? [[String: Any]] ?? []
    return regions.map {
      "\(($0["gpa"] as? Int).map { String($0, radix: 16) } ?? "")+\($0["bytes"]!)"
    }
  }

  /// Saves a file and the same from a pipe, and returns the RAM that both give.
  private func save(_ bytes: [UInt8], warning: String = "") throws -> [UInt8] {
    let path = try bench.write("guest.avml", bytes)
    for (source, name) in [(path, "file"), ("avml:-", "pipe")] {
      let outcome = try bench.tool.run("save", source, "--name", name, input: .file(path))
      #expect(outcome.succeeded, "\(outcome)")
      #expect(warning.isEmpty || outcome.standardError.contains(warning), "\(outcome)")
    }
    let ram = try bench.restore("file")
    #expect(try bench.restore("pipe") == ram)
    #expect(try bench.sql.integer("SELECT count(DISTINCT digest) FROM snapshot") == 1)
    return ram
  }

  /// Blocks of 4 MiB, of which two are zero and left out; the first range ends inside a page.
  @Test func blocksThatWereLeftOutAreZero() throws {
    let ram = try save(
      Fixture.dump("synthetic.avml"),
      warning: "8388608 bytes between its ranges are stored as zeros: blocks of zeros are left out"
    )
    #expect(try regions("file") == ["0+655360", "100000+15728640"])
    // The window of the video card is in neither range, and the page before it has a part in one.
    let path = try bench.write("same.kdump", Fixture.dump("t10.kdump-raw-zlib"))
    try bench.tool.succeed("save", path, "--name", "kdump")
    let whole = try bench.restore("kdump")
    #expect(try Fixture.sha256(whole[..<0x100_0000], in: bench) == Fixture.ramSHA256)
    #expect(ram[..<0x9fc00] == whole[..<0x9fc00])
    #expect(ram[0xa0000...].elementsEqual(whole[0x10_0000..<0x100_0000]))
  }

  @Test func whatCannotBeRAMBetweenBlocksIsNot() throws {
    let gib: UInt64 = 1 << 30
    var capture = RangeCaptureBuilder()
    // LiME's ranges may be among them.
    capture.plain(0x1000, sampleRAM(3))
    capture.compressed(0x8_0000, sampleRAM(4, seed: 2))
    capture.compressed(0x40_0000, incompressibleRAM(40))
    capture.compressed(gib, sampleRAM(20, seed: 3))
    capture.compressed(4 * gib + 0x20_0000, sampleRAM(2, seed: 4))
    let path = try bench.write("guest.avml", capture.bytes)
    // The first range says that it is LiME's.
    let outcome = try bench.tool.run("save", "avml:\(path)", "--name", "a")
    #expect(outcome.succeeded, "\(outcome)")
    #expect(
      try regions("a") == ["1000+536576", "100000+1072775168", "100000000+2105344"]
    )
    let ram = try bench.restore("a")
    #expect(Array(ram[..<0x3000]) == sampleRAM(3))
    #expect(Array(ram[0x7f000..<0x83000]) == sampleRAM(4, seed: 2))
    #expect(Array(ram[(0x83000 + 0x30_0000)...].prefix(40 * 4096)) == incompressibleRAM(40))
    #expect(Array(ram.suffix(8192)) == sampleRAM(2, seed: 4))
  }

  /// The reader asks for a range once more to know that the page ends there.
  @Test(arguments: [[0x800], [0x9ff, 0x800], [4096 + 0x801, 0x700], [0xc00 + 4096 * 9]])
  func theLastRangeMayEndInsideAPage(byteCounts: [Int]) throws {
    var capture = RangeCaptureBuilder()
    let data = incompressibleRAM(12)
    var expected = [UInt8](repeating: 0, count: 12 * 4096)
    var start = 0
    for byteCount in byteCounts {
      let part = Array(data[start..<(start + byteCount)])
      capture.compressed(0x1000 + UInt64(start), part)
      expected.replaceSubrange(start..<(start + byteCount), with: part)
      start += byteCount
    }
    let ram = try save(capture.bytes, warning: "ranges begin or end inside pages")
    #expect(ram == Array(expected[..<((start + 4095) / 4096 * 4096)]))
  }

  /// A snapshot with 1 PiB of zeros cannot be restored as a file.
  @Test func aGapThatNoRAMFillsIsNotZeros() throws {
    var capture = RangeCaptureBuilder()
    capture.compressed(0x10_0000, sampleRAM(2))
    capture.compressed(1 << 50, sampleRAM(2, seed: 2))
    #expect(try save(capture.bytes) == sampleRAM(2) + sampleRAM(2, seed: 2))
    #expect(try regions("file") == ["100000+8192", "4000000000000+8192"])
  }

  /// An overlay in a block that was left out.
  @Test func anUnderlayInABlockOfZerosIsStored() throws {
    var capture = RangeCaptureBuilder()
    capture.compressed(0x10_0000, sampleRAM(2))
    capture.compressed(0x20_0000, sampleRAM(2, seed: 2))
    let page = incompressibleRAM(1, seed: 9)
    let overlays = try bench.write(
      "overlays.json",
      #"{"format": 1, "guest_os_id": "0x1", "overlays": [{"kind": "hypercall", "pfn": "0x150","#
        + #" "variant": "vmcall", "underlay": ""# + Data(page).base64EncodedString() + #""}]}"#
    )
    let path = try bench.write("x.avml", capture.bytes)
    let outcome = try bench.tool.run("save", path, "--overlays", overlays, "--name", "a")
    #expect(outcome.succeeded, "\(outcome)")
    let target = bench.directory.file("bare")
    try bench.tool.succeed("restore", "a", "--overlays", "omit", "-o", target)
    let ram = try readFile(target)
    #expect(Array(ram[0x5_0000..<0x5_1000]) == page)
    #expect(ram.count == 0x10_2000)
  }

  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var message: String
    var make: @Sendable () -> [UInt8]

    init(
      _ name: String,
      _ message: String,
      _ change: @escaping @Sendable (inout RangeCaptureBuilder) -> Void
    ) {
      testDescription = name
      self.message = message
      make = {
        var capture = AVMLTests.sample
        change(&capture)
        return capture.bytes
      }
    }

    static func frames(_ name: String, _ message: String, _ frames: [UInt8]) -> Case {
      Case(name, "is damaged in range 1 at GPA 0x0: the Snappy chunk at offset \(message)") {
        $0.blocks[0].frames = frames
      }
    }

    static func cut(_ name: String, _ message: String, at byteCount: Int) -> Case {
      var result = Case(
        name,
        "is cut short \(message); wait until it is written, or copy it again"
      ) { _ in }
      result.make = { Array(AVMLTests.sample.bytes.prefix(byteCount)) }
      return result
    }
  }

  private static var sample: RangeCaptureBuilder {
    var capture = RangeCaptureBuilder()
    capture.compressed(0, data)
    capture.compressed(0x20_0000, sampleRAM(2, seed: 2))
    return capture
  }

  private static let data = [UInt8](repeating: 7, count: 4096) + incompressibleRAM(17)
  private static let frames = SnappyModel.frames(data)
  private static let start = SnappyModel.identifier
  private static let crc = SnappyModel.checksum(data)

  private static func flipped(_ index: Int) -> [UInt8] {
    var result = frames
    result[index] ^= 1
    return result
  }

  /// A block that says it has 4 GiB, as a bomb would.
  private static let bomb =
    start + SnappyModel.chunk(0, [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0])

  static let damages: [Case] = [
    .cut("nothing but a magic", "in the header of range 1", at: 4),
    .cut("cut in the header", "in the header of range 1", at: 31),
    .cut("cut before the frames", "in range 1 at GPA 0x0", at: 32),
    .cut("cut in the identifier", "in range 1 at GPA 0x0", at: 40),
    .cut("cut in a chunk", "in range 1 at GPA 0x0", at: 100),
    .cut("cut before the length", "behind range 1 at GPA 0x0", at: 32 + frames.count),
    .cut("cut in the length", "behind range 1 at GPA 0x0", at: 32 + frames.count + 7),
    .cut("cut in the second header", "in the header of range 2", at: 32 + frames.count + 8 + 31),
    .cut("cut in the last number", "behind range 2 at GPA 0x200000", at: sample.bytes.count - 1),
    Case(
      "another version",
      "has a range of AVML's version 3, and only 2 can be read: it is range 1, at offset 0"
    ) { $0.blocks[0].version = 3 },
    Case(
      "another length",
      "is damaged: range 1 at GPA 0x0 has \(frames.count) compressed bytes, and 18446744073709551615 by the "
        + "number behind them"
    ) { $0.blocks[0].length = .max },
    Case("more data than addresses", "is damaged: range 1 at GPA 0x0 has more data than addresses")
    {
      $0.blocks[0].last = 8191
    },
    Case(
      "no range",
      "is damaged: what follows range 1, at offset \(32 + frames.count + 8), is not a range's header"
    ) { $0.blocks[1].magic = "AVMX" },
    Case(
      "ranges that overlap",
      "is damaged: range 2 at GPA 0x1000 and one before it both hold GPA 0x1000"
    ) { $0.blocks[1].gpa = 0x1000 },
    Case(
      "all of 64 bits",
      "is damaged: range 1 at GPA 0x0 ends beyond 52-bit physical addresses, at 0xffffffffffffffff"
    ) { $0.blocks[0].last = .max },
    .frames(
      "no identifier",
      "32 comes before the stream's identifier",
      Array(frames.dropFirst(10))
    ),
    .frames("another identifier", "32 is not an identifier", flipped(9)),
    .frames("a flipped bit in the CRC", "42 has a wrong CRC", flipped(14)),
    .frames("a flipped bit in the data", "42 has a wrong CRC", flipped(24)),
    .frames("a flipped bit in a block's tag", "42 cannot be decompressed", flipped(23)),
    .frames(
      "a flipped bit in a block that is not compressed",
      "\(32 + frames.count - 8 - data.count + 65536) has a wrong CRC",
      flipped(frames.count - 1)
    ),
    .frames("a reserved chunk", "42 is of the unknown type 2", start + SnappyModel.chunk(2, [1])),
    .frames("a chunk without CRC", "42 has 3 bytes", start + SnappyModel.chunk(1, [1, 2, 3])),
    .frames(
      "a chunk of 16 MiB",
      "42 has 16777215 bytes",
      start + [0, 0xff, 0xff, 0xff]
    ),
    .frames(
      "data of 64 KiB and a byte",
      "42 has 65541 bytes",
      start + SnappyModel.chunk(1, crc + [UInt8](repeating: 0, count: 65537))
    ),
    .frames("a bomb", "42 holds more than 65536 bytes of data, or is damaged", bomb),
    .frames(
      "an empty block",
      "42 holds more than 65536 bytes of data, or is damaged",
      start + SnappyModel.chunk(0, [0, 0, 0, 0])
    ),
    .frames(
      "a copy from before the block",
      "42 cannot be decompressed",
      start + SnappyModel.chunk(0, [0, 0, 0, 0, 64, 0xfe, 1, 0])
    ),
  ]

  @Test(arguments: damages)
  func aDamagedCaptureIsRefused(damage: Case) throws {
    let path = try bench.write("x.avml", damage.make())
    for (source, name) in [(path, path), ("avml:-", "stdin")] {
      let outcome = try bench.tool.run("save", source, "--name", "x", input: .file(path))
      expectFailure(outcome, 65, "AVML capture \"\(name)\" \(damage.message)")
      #expect(try !bench.tool.run("show", "x").succeeded)
      #expect(bench.leftovers.isEmpty)
    }
  }

  /// Nothing of a capture is stored when its last block is damaged.
  @Test func theStoreIsAsItWasAfterALateError() throws {
    try bench.save("before", sampleRAM(5))
    let pages = try bench.sql.pageCounts()
    var capture = Self.sample
    capture.blocks[1].length = 1
    let path = try bench.write("x.avml", capture.bytes)
    #expect(try bench.tool.run("save", path, "--name", "x").ending == .exit(65))
    #expect(try bench.sql.pageCounts() == pages)
    try expectSound(bench, [("before", sampleRAM(5))], "after a damaged capture")
  }
}
