import Foundation
import Testing
import VMCheckpointTestSupport

/// A core that a debugger does not open, or that shows another guest, is worth nothing.
@Suite struct ELFWritingTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// Restores a snapshot to a file, and checks that a pipe gets the same bytes.
  private func core(_ name: String, _ options: String...) throws -> [UInt8] {
    let path = bench.directory.file("\(name).elf")
    let arguments = ["restore", name, "--format", "elf"] + options
    expectSuccess(try bench.tool.start(arguments + ["-o", path, "--force"]).wait())
    let bytes = try readFile(path)
    #expect(try fileMode(path) == 0o600)
    let stream = try bench.tool.start(arguments + ["-o", "-"]).wait()
    #expect(stream.succeeded, "\(stream.standardError)")
    #expect(stream.standardOutput == bytes)
    #expect(bench.leftovers.isEmpty)
    return bytes
  }

  /// A page that begins like VMCOREINFO in a Linux guest's RAM.
  private func vmcoreinfoPage(_ text: String, byteCount: Int? = nil) -> [UInt8] {
    let page =
      [11, 0, 0, 0, UInt8(truncatingIfNeeded: byteCount ?? text.utf8.count)]
      + [UInt8(truncatingIfNeeded: (byteCount ?? text.utf8.count) >> 8), 0, 0, 0, 0, 0, 0]
      + Array("VMCOREINFO\0\0\(text)".utf8)
    return page + [UInt8](repeating: 0, count: 4096 - page.count)
  }

  /// The head of a core without notes of CPUs: one load for each of two regions.
  @Test func theHeadIsWrittenAsItIsRead() throws {
    let ram = sampleRAM(4) + vmcoreinfoPage("OSRELEASE=6.1.0\nPAGESIZE=4096\n") + sampleRAM(1)
    let path = try bench.write("guest.ram", ram)
    try bench.tool.succeed(
      "save",
      path,
      "--name",
      "a",
      "--region",
      "gpa=0,size=12K,offset=0,name=low",
      "--region",
      "gpa=4G,size=12K,offset=12K,name=high"
    )
    let head = try core("a")
    func numbers(_ values: [UInt64], _ byteCount: Int) -> [UInt8] {
      values.flatMap { value in
        (0..<byteCount).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
      }
    }
    var expected: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    expected += [4, 0, 62, 0, 1, 0, 0, 0]
    expected += numbers([0, 64, 0], 8)
    expected += [0, 0, 0, 0, 64, 0, 56, 0, 3, 0, 0, 0, 0, 0, 0, 0]
    expected += [4, 0, 0, 0, 0, 0, 0, 0] + numbers([232, 0, 0, 56, 56, 0], 8)
    expected += [1, 0, 0, 0, 7, 0, 0, 0] + numbers([8192, 0, 0, 12288, 12288, 0], 8)
    expected +=
      [1, 0, 0, 0, 7, 0, 0, 0] + numbers([20480, 1 << 32, 1 << 32, 12288, 12288, 0], 8)
    expected += [11, 0, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0] + Array("VMCOREINFO\0\0".utf8)
    expected += Array("OSRELEASE=6.1.0\nPAGESIZE=4096\n\0\0".utf8)
    expected += [UInt8](repeating: 0, count: 8192 - expected.count)
    #expect(head == expected + ram)
  }

  /// QEMU's own dump of the same moment has these notes: registers and VMCOREINFO, which its device points to.
  @Test func notesOfAQEMUGuestAreThoseThatQEMUWrites() throws {
    let path = try bench.write("stream", try ELFFixtures.linuxStream())
    try bench.tool.succeed("save", path, "--name", "linux")
    let target = bench.directory.file("linux.elf")
    expectSuccess(try bench.tool.run("restore", "linux", "-o", target, "--format", "elf"))
    let head = try readFile(target, at: 0, byteCount: 16384)
    #expect(ELFModel.notes(head) == (try ELFFixtures.linuxNotes()))
    #expect(
      try readFile(target, at: 64 + 56 * 2 + 4916, byteCount: 100)
        == [UInt8](repeating: 0, count: 100)
    )
  }

  /// A core without registers must not pass for one of a guest without CPUs.
  @Test func aGuestWhoseRegistersCannotBeReadIsToldOf() throws {
    var stream = QEMUStreamBuilder()
    stream.header()
    stream.ramStart([("pc.ram", 2)])
    stream.ramPart(3)
    stream.page("pc.ram", 1, incompressibleRAM(1))
    stream.ramEnd()
    stream.devices()
    let path = try bench.write("stream", stream.bytes)
    try bench.tool.succeed("save", path, "--name", "a")
    let target = bench.directory.file("a.elf")
    let outcome = try bench.tool.run("restore", "a", "-o", target, "--format", "elf")
    #expect(outcome.succeeded, "\(outcome)")
    #expect(
      outcome.standardError.contains("does not say how the CPUs' registers are to be read"),
      "\(outcome)"
    )
    #expect(ELFModel(try readFile(target)).notes.isEmpty)
  }

  /// A device that takes another number of bytes than the description says must not move the CPUs' registers.
  @Test func registersAreFoundBehindADeviceOfAnotherSize() throws {
    var stream = try ELFFixtures.linuxStream()
    let described = Array(#""name": "cpu_common", "instance_id": 0"#.utf8)
    let size = Array(#""size": 4"#.utf8)
    let start = try #require(stream.firstRange(of: described)?.lowerBound)
    let place = try #require(stream[start...].firstRange(of: size))
    stream.replaceSubrange(place, with: Array(#""size": 9"#.utf8))
    let path = try bench.write("stream", stream)
    try bench.tool.succeed("save", path, "--name", "a")
    let target = bench.directory.file("a.elf")
    expectSuccess(try bench.tool.run("restore", "a", "-o", target, "--format", "elf"))
    let head = try readFile(target, at: 0, byteCount: 16384)
    #expect(ELFModel.notes(head) == (try ELFFixtures.linuxNotes()))
  }

  /// Without a pointer to it, VMCOREINFO is found where it is in RAM.
  @Test func vmcoreinfoIsFoundInRAM() throws {
    let page = try ELFFixtures.linuxVMCoreInfoPage()
    let ram = sampleRAM(700) + page + sampleRAM(300, seed: 2)
    let digest = try bench.save("a", ram)
    let notes = ELFModel.notes(try core("a"))
    let linux = try ELFFixtures.linuxNotes()
    #expect(notes == Array(linux.suffix(notes.count)))
    #expect(notes.count == 24 + 3260)
    // And comes back with the core.
    let path = bench.directory.file("a.elf")
    #expect(try bench.tool.json("save", path, "--name", "b")["digest"] as? String != digest)
    #expect(try bench.restore("b") == ram)
    #expect(ELFModel.notes(try core("b")) == notes)
  }

  /// A page that only looks like it must neither be taken nor stop the search.
  @Test func whatOnlyLooksLikeVMCOREINFOIsNotTaken() throws {
    let good = "OSRELEASE=6.1.0\n"
    var ram = vmcoreinfoPage("OSRELEASE=1", byteCount: 0) + vmcoreinfoPage("PAGESIZE=4096")
    ram += vmcoreinfoPage("OSRELEASE=2", byteCount: 4097)
    // One whose text goes on in the next page.
    let long = vmcoreinfoPage("OSRELEASE=3\n", byteCount: 4096)
    try bench.save("long", ram + long + sampleRAM(1))
    let notes = ELFModel.notes(try core("long"))
    #expect(notes.count == 24 + 4096)
    #expect(Array(notes.suffix(24)) == Array(sampleRAM(1).prefix(24)))
    // It would end behind RAM.
    try bench.save("short", ram + vmcoreinfoPage(good) + long)
    #expect(ELFModel.notes(try core("short")).count == 24 + good.utf8.count)
    try bench.save("none", ram + long)
    #expect(ELFModel.notes(try core("none")).isEmpty)
  }

  /// Notes that a core came with come back, whatever they are.
  @Test(arguments: [4, 8])
  func notesOfACoreComeBack(alignment: Int) throws {
    var elf = ELFBuilder()
    let notes =
      ELFBuilder.note("VBCORE", 0xb00, [UInt8](repeating: 1, count: 24), alignment: alignment)
      + ELFBuilder.note("VBCPU", 0xb01, [UInt8](repeating: 2, count: 80), alignment: alignment)
      + ELFBuilder.note("VMCOREINFO", 0, Array("OSRELEASE=5\n".utf8), alignment: alignment)
    elf.notes(notes, alignment: UInt64(alignment))
    elf.load(0, sampleRAM(3))
    let path = try bench.write("box.elf", elf.bytes)
    try bench.tool.succeed("save", path, "--name", "box")
    let core = try core("box")
    #expect(ELFModel.notes(core) == notes)
    #expect(Array(core.suffix(3 * 4096)) == sampleRAM(3))
  }

  @Test(arguments: [3, 62, 183])
  func theMachineOfACoreComesBack(machine: UInt16) throws {
    var elf = ELFBuilder()
    elf.is64Bit = machine != 3
    elf.machine = machine
    elf.load(0x4000_0000, sampleRAM(2))
    try bench.tool.succeed("save", try bench.write("x.elf", elf.bytes), "--name", "x")
    let core = try core("x")
    #expect(Array(core[18..<20]) == [UInt8(machine), 0])
    #expect(core[4] == 2)
  }

  @Test func overlaysAreLaidOverRAM() throws {
    let overlays = try bench.write(
      "overlays.json",
      #"{"format": 1, "guest_os_id": "0x81", "overlays": [{"kind": "hypercall", "pfn": 2, "#
        + #""variant": "vmcall", "underlay": "zero"}]}"#
    )
    let ram = sampleRAM(2) + [UInt8](repeating: 0, count: 8192)
    try bench.save("a", ram, "--overlays", overlays)
    let shown = try bench.tool.restored("a", in: bench.directory)
    #expect(shown != ram)
    #expect(Array(try core("a").suffix(ram.count)) == shown)
    #expect(Array(try core("a", "--overlays", "omit").suffix(ram.count)) == ram)
  }

  @Test func zeroPagesAreHoles() throws {
    let path = try bench.write("sparse.ram", sampleRAM(2) + [UInt8](repeating: 0, count: 64 << 20))
    try bench.tool.succeed("save", path, "--name", "a")
    let target = bench.directory.file("a.elf")
    expectSuccess(try bench.tool.run("restore", "a", "-o", target, "--format", "elf"))
    let size = try fileSize(target)
    #expect(size.byteCount == 64 << 20 + 2 * 4096 + 8192)
    #expect(size.allocated < 1 << 20)
  }

  /// A core without its end would look whole: it gets its name last.
  @Test func aDamagedSnapshotLeavesNoCore() throws {
    try bench.save("a", incompressibleRAM(400))
    _ = try bench.sql.run(
      """
      UPDATE chunk_data SET data = zeroblob(length(data))
       WHERE chunk_id = (SELECT max(chunk_id) FROM chunk_data)
      """
    )
    let target = bench.directory.file("a.elf")
    let outcome = try bench.tool.run("restore", "a", "-o", target, "--format", "elf")
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(!exists(target))
    #expect(bench.leftovers.isEmpty)
  }
}

extension ELFModel {
  /// The notes of a core of the 64-bit class, without its RAM.
  static func notes(_ file: [UInt8]) -> [UInt8] {
    func number(_ offset: Int, _ byteCount: Int) -> Int {
      (0..<byteCount).reduce(0) { $0 | Int(file[offset + $1]) << (8 * $1) }
    }
    let start = number(64 + 8, 8)
    return Array(file[start..<(start + number(64 + 32, 8))])
  }
}
