import Foundation
import Testing
import VMCheckpointTestSupport

/// A capture of LiME that is read with a page at another address, or written so that its reader takes zeros for
/// memory that is not there, is not the guest.
@Suite struct LiMETests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private static let padding =
    "ranges begin or end inside pages: the 1024 bytes that those pages lack are stored as zeros"

  /// Two ranges, of which the first ends inside a page, as `/proc/iomem` has it.
  private static func capture() -> RangeCaptureBuilder {
    var capture = RangeCaptureBuilder()
    capture.plain(0x1000, Array(sampleRAM(159).prefix(0x9fc00 - 0x1000)))
    capture.plain(0x10_0000, sampleRAM(600, seed: 2))
    capture.plain(1 << 32, sampleRAM(9, seed: 3))
    return capture
  }

  private static var captureRAM: [UInt8] {
    Array(sampleRAM(159).prefix(0x9fc00 - 0x1000)) + [UInt8](repeating: 0, count: 1024)
      + sampleRAM(600, seed: 2) + sampleRAM(9, seed: 3)
  }

  private func regions(_ name: String) throws -> [String] {
    let regions = try bench.tool.json("show", name)["memory_regions"] as? [[String: Any]] ?? []
    return regions.map {
      "\(($0["gpa"] as? Int).map { String($0, radix: 16) } ?? "")+\($0["bytes"]!)"
    }
  }

  @Test func aFileAndAPipeGiveTheSameGuest() throws {
    let path = try bench.write("guest.lime", Self.capture().bytes)
    let file = try bench.tool.run("save", path, "--name", "file")
    let pipe = try bench.tool.run("save", "lime:-", "--name", "pipe", input: .file(path))
    #expect(file.succeeded && pipe.succeeded, "\(file) \(pipe)")
    #expect(
      file.standardError == "vmckpt: warning: LiME capture \"\(path)\": \(Self.padding)\n"
    )
    #expect(pipe.standardError == "vmckpt: warning: LiME capture \"stdin\": \(Self.padding)\n")
    for name in ["file", "pipe"] {
      #expect(try bench.restore(name) == Self.captureRAM)
      #expect(try regions(name) == ["1000+651264", "100000+2457600", "100000000+36864"])
    }
    #expect(
      try bench.sql.integer("SELECT count(DISTINCT digest) FROM snapshot")
        == 1
    )
    #expect(try bench.tool.json("show", "file")["source"] as? String == "lime:\(path)")
  }

  /// What volatility3 opens: LiME 1.9.1 wrote the sample in a guest with 96 MiB; its second range was cut.
  @Test func aRealCaptureIsRead() throws {
    let bytes = try Fixture.zstd("lime-1.9.1.lime.zst")
    let path = try bench.write("real.lime", bytes)
    for (source, name) in [(path, "a"), ("lime:-", "b")] {
      let outcome = try bench.tool.run("save", source, "--name", name, input: .file(path))
      #expect(outcome.succeeded, "\(outcome)")
      let low = Array(bytes[32..<(32 + 0x9ec00)]) + [UInt8](repeating: 0, count: 1024)
      #expect(try bench.restore(name) == low + Array(bytes[(64 + 0x9ec00)...]))
      #expect(try regions(name) == ["1000+651264", "100000+20480"])
    }
  }

  @Test func whatIsWrittenIsReadAsTheSame() throws {
    let ram = sampleRAM(40)
    let path = try bench.write("guest.ram", ram)
    let options = ["--region", "gpa=4K,size=64K", "--region", "gpa=0x100000,size=96K"]
    let saved = try bench.tool.start(["save", path, "--name", "a"] + options).wait()
    #expect(saved.succeeded, "\(saved)")
    let target = bench.directory.file("a.lime")
    expectSuccess(try bench.tool.run("restore", "a", "-o", target, "--format", "lime"))
    var expected = RangeCaptureBuilder()
    expected.plain(0x1000, Array(ram[..<65536]))
    expected.plain(0x10_0000, Array(ram[65536...]))
    #expect(try readFile(target) == expected.bytes)
    #expect(try fileMode(target) == 0o600)
    let piped = try bench.tool.run("restore", "a", "-o", "-", "--format", "lime")
    #expect(piped.standardOutput == expected.bytes)
    let digests = try [target, "lime:-"].map { source in
      try bench.tool.json("save", source, "--name", "of-\(source.count)", input: .file(target))
    }
    #expect(digests[0]["digest"] as? String == digests[1]["digest"] as? String)
    #expect(digests[0]["new_pages"] as? Int == 0)
    #expect(try bench.restore("of-6") == ram)
    #expect(bench.leftovers.isEmpty)
  }

  /// Zero pages are holes: a capture of an idle guest takes no more room than its pages.
  @Test func zeroPagesAreHoles() throws {
    try bench.save("a", [UInt8](repeating: 0, count: 64 << 20) + sampleRAM(4))
    let target = bench.directory.file("a.lime")
    expectSuccess(try bench.tool.run("restore", "a", "-o", target, "--format", "lime"))
    let size = try fileSize(target)
    #expect(size.byteCount == 64 << 20 + 4 * 4096 + 32)
    #expect(size.allocated < 1 << 20)
  }

  @Test func rangesInAnotherOrderAreReadFromAFileAlone() throws {
    var capture = Self.capture()
    capture.blocks.swapAt(0, 1)
    let path = try bench.write("x.lime", capture.bytes)
    #expect(try bench.tool.run("save", path, "--name", "a").succeeded)
    #expect(try bench.restore("a") == Self.captureRAM)
    expectFailure(
      try bench.tool.run("save", "lime:-", "--name", "b", input: .file(path)),
      65,
      "LiME capture \"stdin\" cannot be read in one pass: range 2 at GPA 0x1000 begins before GPA 0x358000, "
        + "where the one before it ends; put it into a file, and give its PATH"
    )
    #expect(try bench.tool.snapshotNames() == ["a"])
  }

  /// No order of such ranges is right, and none is found in a file either.
  @Test func rangesThatOverlapAreRefusedFromAPipe() throws {
    var capture = RangeCaptureBuilder()
    capture.plain(0x1000, sampleRAM(4))
    capture.plain(0x10_0000, sampleRAM(4))
    capture.plain(0x4000, sampleRAM(2))
    let path = try bench.write("x.lime", capture.bytes)
    expectFailure(
      try bench.tool.run("save", "lime:-", input: .file(path)),
      65,
      "LiME capture \"stdin\" is damaged: range 3 at GPA 0x4000 and one before it both hold GPA 0x4000"
    )
    #expect(try bench.tool.run("save", path).ending == .exit(65))
  }

  /// Ranges that share a page, begin inside one, or lie in one with nothing around them.
  @Test func partsOfOnePageAreJoined() throws {
    for seed in 1...UInt64(soakRounds(12)) {
      let bench = try Workbench()
      var generator = TestGenerator(seed: seed)
      let image = generator.mixedImage(pageCount: 12)
      var capture = RangeCaptureBuilder()
      var expected: [UInt64: [UInt8]] = [:]
      let base: UInt64 = generator.oneIn(2) ? 0 : (1 << 32) - 5 * 4096
      var start = generator.int(0...5000)
      while start < image.count {
        let end = min(image.count, start + generator.int(1...9000))
        capture.plain(base + UInt64(start), Array(image[start..<end]))
        for byte in start..<end {
          let gpa = base + UInt64(byte)
          expected[gpa / 4096, default: [UInt8](repeating: 0, count: 4096)][Int(gpa % 4096)] =
            image[byte]
        }
        start = end + (generator.oneIn(2) ? 0 : generator.int(1...6000))
      }
      let path = try bench.write("x.lime", capture.bytes)
      for (source, name) in [(path, "file"), ("lime:-", "pipe")] {
        let outcome = try bench.tool.run("save", source, "--name", name, input: .file(path))
        #expect(outcome.succeeded, "seed \(seed): \(outcome)")
        let target = bench.directory.file("\(name).lime")
        #expect(try bench.tool.run("restore", name, "-o", target, "--format", "lime").succeeded)
        #expect(LiMEModel(try readFile(target)).pages == expected, "seed \(seed), \(name)")
      }
      #expect(try bench.sql.integer("SELECT count(DISTINCT digest) FROM snapshot") == 1)
    }
  }

  /// An overlay in a page that is zero must not be lost because the page is a hole.
  @Test func anUnderlayReplacesAPageOfACapture() throws {
    let path = try bench.write("guest.lime", Self.capture().bytes)
    let overlays = try bench.write(
      "overlays.json",
      #"{"format": 1, "guest_os_id": "0x1", "overlays": [{"kind": "hypercall", "pfn": "0x102","#
        + #" "variant": "vmcall", "underlay": "zero"}]}"#
    )
    for source in [path, "lime:-"] {
      let outcome = try bench.tool.run(
        "save",
        source,
        "--overlays",
        overlays,
        "--name",
        "s\(source.count)",
        input: .file(path)
      )
      #expect(outcome.succeeded, "\(outcome)")
    }
    #expect(try bench.sql.integer("SELECT count(DISTINCT digest) FROM snapshot") == 1)
  }

  @Test func regionsOfTheUsersAreRefused() throws {
    let path = try bench.write("guest.lime", Self.capture().bytes)
    let outcome = try bench.tool.run("save", path, "--region", "gpa=0,size=4K")
    #expect(outcome.ending == .exit(64), "\(outcome)")
  }
}

/// Reads a capture of LiME as slowly as it is plain.
struct LiMEModel {
  private(set) var pages: [UInt64: [UInt8]] = [:]

  init(_ file: [UInt8]) {
    func number(_ offset: Int) -> UInt64 {
      (0..<8).reduce(0) { $0 | UInt64(file[offset + $1]) << UInt64(8 * $1) }
    }
    var offset = 0
    while offset < file.count {
      let (first, last) = (number(offset + 8), number(offset + 16))
      offset += 32
      for gpa in first...last {
        pages[gpa / 4096, default: [UInt8](repeating: 0, count: 4096)][Int(gpa % 4096)] =
          file[offset]
        offset += 1
      }
    }
  }
}
