import Foundation
import Testing
import VMCheckpointTestSupport

/// A kdump that is read with a page in another's place, or one that was left out taken for zeros without a word, is
/// not the guest.
@Suite struct KdumpTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private func regions(_ name: String) throws -> [String] {
    let regions = try bench.tool.json("show", name)["memory_regions"] as? [[String: Any]] ?? []
    return regions.map { region in
      func hex(_ key: String) -> String { String(region[key] as? Int ?? -1, radix: 16) }
      return "\(hex("gpa"))+\(hex("bytes")) \(region["name"] ?? "")"
    }
  }

  private func stateNames(_ name: String) throws -> [String] {
    let states = try bench.tool.json("show", name)["device_states"] as? [[String: Any]] ?? []
    return states.compactMap { $0["name"] as? String }
  }

  /// QEMU 10 with zlib, flattened and not; makedumpfile 1.7.6 with LZO, flattened and not, and zstd; and a file with
  /// Snappy, which nobody's packages write.
  @Test(arguments: [
    "t10.kdump-zlib", "t10.kdump-raw-zlib", "tiny.kdump-lzo-flat", "tiny.kdump-lzo",
    "tiny.kdump-zstd", "synthetic.kdump-snappy",
  ])
  func aRealDumpIsRead(name: String) throws {
    let path = try bench.write("real", Fixture.dump(name))
    expectSuccess(try bench.tool.run("save", path, "--name", "file"))
    expectSuccess(try bench.tool.run("save", "kdump:-", "--name", "pipe", input: .file(path)))
    #expect(try regions("file") == ["0+1000000 ram", "fffc0000+40000 rom-0xfffc0000"])
    #expect(try stateNames("file") == ["kdump-header", "elf-notes"])
    let ram = try bench.restore("file")
    #expect(try Fixture.sha256(ram[..<0x100_0000], in: bench) == Fixture.ramSHA256)
    #expect(try Fixture.sha256(ram[0x100_0000...], in: bench) == Fixture.firmwareSHA256)
    #expect(try bench.restore("pipe") == ram)
    #expect(try bench.sql.integer("SELECT count(DISTINCT digest) FROM snapshot") == 1)
    #expect(bench.leftovers.isEmpty)
    // The notes go on to an ELF core.
    let target = bench.directory.file("core")
    expectSuccess(try bench.tool.run("restore", "file", "--format", "elf", "-o", target))
    let notes = ELFModel.notes(try readFile(target, at: 0, byteCount: 8192))
    #expect(notes.count == 624)
    if !name.contains("flat"), name != "t10.kdump-zlib" {
      #expect(try Array(Fixture.dump(name)[4200..<(4200 + 624)]) == notes)
    }
  }

  /// Pages in several regions, of which some are zero, some excluded.
  private func random(_ seed: UInt64) -> (dump: KdumpBuilder, ram: [UInt8], excluded: Int) {
    var generator = TestGenerator(seed: seed)
    var dump = KdumpBuilder()
    var ram: [UInt8] = []
    var pool: [[UInt8]] = []
    var pfn = UInt64(generator.int(0...300))
    for _ in 0..<generator.int(1...4) {
      for _ in 0..<generator.int(1...700) {
        switch generator.int(0...9) {
        case 0:
          dump.excluded.insert(pfn)
          ram += [UInt8](repeating: 0, count: 4096)
        case 1...3:
          dump.page(pfn, [UInt8](repeating: 0, count: 4096))
          ram += [UInt8](repeating: 0, count: 4096)
        default:
          let page = generator.page(pool: &pool)
          dump.page(pfn, page)
          ram += page
        }
        pfn += 1
      }
      pfn += UInt64(generator.int(1...40_000))
    }
    dump.pfnCount = pfn + UInt64(generator.int(0...100))
    dump.version = UInt32(generator.int(1...6))
    dump.isWide = generator.oneIn(2)
    return (dump, ram, dump.excluded.count)
  }

  @Test func anyDumpIsReadPageForPage() throws {
    for seed in 1...UInt64(soakRounds(10)) {
      let bench = try Workbench()
      let (dump, ram, excluded) = random(seed)
      let path = try bench.write("x.kdump", dump.bytes)
      let flat = try bench.write("x.flat", KdumpBuilder.flattened(dump.bytes))
      for (source, input, name) in [
        (path, path, "file"), (flat, flat, "flat"), ("kdump:-", path, "pipe"),
        ("kdump:-", flat, "flat-pipe"),
      ] {
        let outcome = try bench.tool.run("save", source, "--name", name, input: .file(input))
        #expect(outcome.succeeded, "seed \(seed): \(outcome)")
        let warning = "\(excluded) pages were left out of it by a filter and are recorded as absent"
        #expect(outcome.standardError.contains(warning) == (excluded > 0), "\(outcome)")
        #expect(try bench.restore(name) == ram, "seed \(seed), \(name)")
        #expect(try bench.absentPFNs(of: name) == Set(dump.excluded.map { UInt64($0) }))
      }
      #expect(try bench.sql.integer("SELECT count(DISTINCT digest) FROM snapshot") == 1)
    }
  }

  /// An overlay on a page of a window that has nothing else.
  @Test func anUnderlayInAnExcludedPageIsStored() throws {
    var dump = KdumpBuilder()
    dump.pfnCount = 1000
    dump.excluded = Set(0..<1000)
    dump.page(3, incompressibleRAM(1))
    let page = incompressibleRAM(1, seed: 9)
    let overlays = try bench.write(
      "overlays.json",
      #"{"format": 1, "guest_os_id": "0x1", "overlays": [{"kind": "hypercall", "pfn": 700,"#
        + #" "variant": "vmcall", "underlay": ""# + Data(page).base64EncodedString() + #""}]}"#
    )
    let path = try bench.write("x.kdump", dump.bytes)
    let outcome = try bench.tool.run("save", path, "--overlays", overlays, "--name", "a")
    #expect(outcome.succeeded, "\(outcome)")
    let target = bench.directory.file("bare")
    try bench.tool.succeed("restore", "a", "--overlays", "omit", "-o", target)
    let ram = try readFile(target)
    #expect(Array(ram[(700 * 4096)..<(701 * 4096)]) == page)
    #expect(Array(ram[(3 * 4096)..<(4 * 4096)]) == incompressibleRAM(1))
  }

  /// The text of VMCOREINFO becomes a note where the notes lack it, and what was erased is told of.
  @Test func vmcoreinfoIsKept() throws {
    var dump = KdumpBuilder()
    dump.page(0, incompressibleRAM(1))
    dump.vmcoreinfo = Array("OSRELEASE=6.1.0\nPAGESIZE=4096\n".utf8)
    dump.notes = ELFBuilder.note("CORE", 1, [UInt8](repeating: 3, count: 336))
    dump.eraseInfo = Array("erase x\n".utf8)
    let path = try bench.write("x.kdump", dump.bytes)
    let outcome = try bench.tool.run("save", path, "--name", "a")
    #expect(
      outcome.standardError
        == "vmckpt: warning: kdump \"\(path)\": its 8 bytes of erase information are not kept\n"
    )
    let target = bench.directory.file("core")
    expectSuccess(try bench.tool.run("restore", "a", "--format", "elf", "-o", target))
    let notes = ELFModel.notes(try readFile(target, at: 0, byteCount: 4096))
    #expect(notes == dump.notes + ELFBuilder.note("VMCOREINFO", 0, dump.vmcoreinfo))
  }

  @Test func aDumpFromAPipeIsToldHowToBeRead() throws {
    var dump = KdumpBuilder()
    dump.page(0, incompressibleRAM(1))
    for bytes in [dump.bytes, KdumpBuilder.flattened(dump.bytes)] {
      let path = try bench.write("x", bytes)
      let outcome = try bench.tool.run("save", "-", input: .file(path))
      #expect(outcome.ending == .exit(65), "\(outcome)")
      #expect(outcome.standardError.contains("write kdump:- as SOURCE"), "\(outcome)")
    }
  }
}
