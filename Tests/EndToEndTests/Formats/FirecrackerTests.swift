import Glibc
import Testing
import VMCheckpointTestSupport

/// A snapshot of Firecracker that comes back with a byte changed, or a page of the wrong diff, does not go on
/// right. No binary of it is at hand: a writer of the tests' own makes the snapshots, from the documented layout.
@Suite struct FirecrackerTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// Makes a directory with both files.
  private func write(_ name: String, _ memory: [UInt8], _ state: [UInt8]) throws -> String {
    let path = bench.directory.file(name)
    guard mkdir(path, 0o700) == 0 else { throw TestSetupError("cannot make \(path)") }
    try writeFile("\(path)/mem_file", memory)
    try writeFile("\(path)/snapshot_file", state)
    return path
  }

  /// RAM without holes in its file: no page is zero.
  private static let ram = incompressibleRAM(512)

  private static func state(_ major: Int = 8) -> FirecrackerBuilder {
    FirecrackerBuilder(major, [.init(0, 1 << 20), .init(4 << 30, 1 << 20)])
  }

  private func expectFiles(_ directory: String, _ memory: [UInt8], _ state: [UInt8]) throws {
    #expect(directoryEntries(directory).sorted() == ["memory", "vmstate"])
    #expect(try readFile("\(directory)/memory") == memory)
    #expect(try readFile("\(directory)/vmstate") == state)
  }

  private func expectRestored(_ name: String, _ memory: [UInt8], _ state: [UInt8]) throws {
    let out = bench.directory.file("\(name).out")
    expectSuccess(try bench.tool.run("restore", name, "--format", "firecracker", "-o", out))
    try expectFiles(out, memory, state)
  }

  // MARK: Full snapshots

  struct Form: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var state: FirecrackerBuilder

    init(_ name: String, _ major: Int, _ change: (inout FirecrackerBuilder) -> Void = { _ in }) {
      testDescription = name
      state = FirecrackerTests.state(major)
      change(&state)
    }
  }

  static let forms: [Form] =
    (2...8).map { Form("version \($0)", $0) } + [
      Form("version 5 with offsets", 5) { $0.hasOffsets = true },
      Form("Firecracker 1.14", 8) { $0.hasSlots = true },
      Form("no boot arguments", 7) { $0.bootArguments = nil },
      Form("arm64", 7) { $0.magic = 0x0710_1984_aaaa_0000 },
    ]

  @Test(arguments: forms)
  func bothFilesComeBack(form: Form) throws {
    let state = form.state.bytes
    let directory = try write("web", Self.ram, state)
    expectSuccess(try bench.tool.run("save", directory, "--name", "a"))
    try expectRestored("a", Self.ram, state)
    let shown = try bench.tool.json("show", "a")
    let regions = shown["memory_regions"] as? [[String: Any]] ?? []
    #expect(regions.map { $0["gpa"] as? Int } == [0, 4 << 30])
    let states = shown["device_states"] as? [[String: Any]] ?? []
    #expect(states.map { $0["format"] as? String } == ["firecracker-vmstate"])
    #expect(try bench.tool.verify().succeeded)
  }

  /// Of a vmstate of 1.15 and later nothing can be read: where RAM is follows from Firecracker's rule.
  @Test(arguments: [UInt64(0x0710_1984_8664_0000), 0x0710_1984_aaaa_0000, 0])
  func aVMStateInBitcodeComesBack(magic: UInt64) throws {
    let state = FirecrackerBuilder.bitcode(magic: magic == 0 ? nil : magic)
    let directory = try write("web", Self.ram, state)
    let outcome = try bench.tool.run("save", "firecracker:\(directory)", "--name", "a")
    #expect(outcome.succeeded, "\(outcome)")
    let guess = magic == 0 ? "it is taken for one of x86-64, " : ""
    #expect(
      outcome.standardError
        == "vmckpt: warning: Firecracker vmstate file \"\(directory)/snapshot_file\": its encoding "
        + "(Firecracker 1.15 and later) cannot be read: \(guess)RAM's addresses follow from its size, which "
        + "is right without hotplugged memory, and Hyper-V overlays are not looked for\n"
    )
    try expectRestored("a", Self.ram, state)
    let regions = try bench.tool.json("show", "a")["memory_regions"] as? [[String: Any]] ?? []
    let start = magic == 0x0710_1984_aaaa_0000 ? 2 << 30 : 0
    #expect(regions.map { $0["gpa"] as? Int } == [start])
  }

  /// A guest of 4 GiB has its last GiB above the hole.
  @Test func theRuleLeavesTheHoleBelow4GiBOut() throws {
    let directory = bench.directory.file("big")
    try #require(mkdir(directory, 0o700) == 0)
    try writeMemoryFile(
      "\(directory)/mem",
      byteCount: 4 << 30,
      pages: [
        0: sampleRAM(1, seed: 9), 0xbffff: incompressibleRAM(1),
        0xc0000: incompressibleRAM(1, seed: 2),
      ]
    )
    try writeFile("\(directory)/vmstate", FirecrackerBuilder.bitcode())
    let outcome = try bench.tool.run("save", directory, "--name", "a", "--base", "none")
    #expect(outcome.succeeded, "\(outcome)")
    let extents = try bench.sql.run("SELECT first_pfn FROM ram_extent ORDER BY 1")
    #expect(extents.split(separator: "\n").suffix(2) == ["786431", "1048576"])
  }

  @Test func theMemoryFileCanBeNamed() throws {
    let directory = try write("web", Self.ram, Self.state().bytes)
    let memory = "\(directory)/mem_file"
    expectSuccess(try bench.tool.run("save", "firecracker:\(memory)", "--name", "a"))
    // With two vmstate files beside it, somebody must say which.
    try writeFile("\(directory)/other", Self.state(7).bytes)
    expectFailure(
      try bench.tool.run("save", "firecracker:\(memory)"),
      65,
      "directory \"\(directory)\" has 2 vmstate files of Firecracker; name the one that was written with the "
        + "memory file with --vmstate"
    )
    expectSuccess(
      try bench.tool.run(
        "save",
        "firecracker:\(memory)",
        "--vmstate",
        "\(directory)/other",
        "--name",
        "b"
      )
    )
    try expectRestored("b", Self.ram, Self.state(7).bytes)
  }

  /// Slots of virtio-mem that are not plugged in are holes of the memory file, and not RAM.
  @Test func unpluggedMemoryIsNotRAM() throws {
    var state = FirecrackerBuilder(
      8,
      [.init(0, 1 << 20), .init(512 << 30, 1 << 20, type: 1, plugged: [1, 0, 1, 1])]
    )
    state.hasSlots = true
    let directory = bench.directory.file("web")
    try #require(mkdir(directory, 0o700) == 0)
    let ram = Self.ram
    let pages = (0..<512).filter { !(320..<384).contains($0) }
    try writeMemoryFile(
      "\(directory)/mem",
      byteCount: ram.count,
      pages: Dictionary(
        uniqueKeysWithValues: pages.map { ($0, Array(ram[($0 << 12)..<(($0 + 1) << 12)])) }
      )
    )
    try writeFile("\(directory)/vmstate", state.bytes)
    expectSuccess(try bench.tool.run("save", directory, "--name", "a"))
    try expectRestored("a", readFile("\(directory)/mem"), state.bytes)
    let regions = try bench.tool.json("show", "a")["memory_regions"] as? [[String: Any]] ?? []
    #expect(regions.map { $0["gpa"] as? Int } == [0, 512 << 30, 512 << 30 + 0x80000])
    // A copy without holes has zeros there; what is not zero is not dropped silently.
    for byte in [0, 1] as [UInt8] {
      let start = 320 << 12
      let filled = ram[..<start] + [UInt8](repeating: byte, count: 64 << 12) + ram[(384 << 12)...]
      try writeFile("\(directory)/mem", Array(filled))
      let outcome = try bench.tool.run("save", directory, "--name", "b\(byte)")
      #expect(outcome.succeeded, "\(outcome)")
      #expect(
        outcome.standardError.contains("a slot that is not plugged in, at offset 0x140000; they")
          == (byte == 1),
        "\(outcome)"
      )
    }
  }

  @Test(arguments: [5, 8])
  func overlaysAreFoundInTheRegisters(major: Int) throws {
    var ram = Self.ram
    HyperVPages.put(into: &ram)
    var state = Self.state(major)
    state.processors = (0..<2).map { HyperVPages.registers(vp: $0) }
    let directory = try write("web", ram, state.bytes)
    expectSuccess(try bench.tool.run("save", directory, "--name", "a"))
    try expectOverlays("a", bench, origin: "firecracker-msrs")
    try expectRestored("a", ram, state.bytes)
    expectSuccess(try bench.tool.run("save", directory, "--name", "b", "--overlays", "none"))
    let shown = try bench.tool.json("show", "b")["overlays"] as? [String: Any] ?? [:]
    #expect((shown["overlays"] as? [Any])?.isEmpty == true)
    try expectRestored("b", ram, state.bytes)
  }

  // MARK: Diffs

  /// Full RAM and three diffs, with pages that become zero, and the RAM after each.
  private func writeChain() throws -> (files: [String], images: [[UInt8]], states: [[UInt8]]) {
    var generator = TestGenerator(seed: 5)
    var image = Self.ram
    var (files, images, states): ([String], [[UInt8]], [[UInt8]]) = ([], [image], [])
    for index in 0..<4 {
      var state = Self.state()
      state.bootArguments = "step=\(index)"
      states.append(state.bytes)
      let directory = bench.directory.file("step-\(index)")
      try #require(mkdir(directory, 0o700) == 0)
      try writeFile("\(directory)/vmstate", state.bytes)
      files.append(directory)
      guard index > 0 else {
        try writeFile("\(directory)/mem", image)
        continue
      }
      var pages: [Int: [UInt8]] = [:]
      for _ in 0..<60 {
        let first = generator.int(0...511)
        for page in first..<min(512, first + generator.int(1...5)) {
          pages[page] =
            generator.oneIn(3)
            ? [UInt8](repeating: 0, count: 4096) : generator.incompressiblePage()
        }
      }
      // The borders of RAM, and of the two regions.
      if index == 2 { for page in [0, 255, 256, 511] { pages[page] = generator.pointerPage() } }
      for (page, bytes) in pages {
        image.replaceSubrange((page << 12)..<((page + 1) << 12), with: bytes)
      }
      try writeMemoryFile("\(directory)/mem", byteCount: image.count, pages: pages)
      images.append(image)
    }
    return (files, images, states)
  }

  @Test func aChainOfDiffsIsWhatTheGuestHad() throws {
    let (files, images, states) = try writeChain()
    // In one command, from full RAM on.
    expectSuccess(
      try bench.tool.run(
        "save",
        files[0],
        "--diff",
        files[1],
        "--diff",
        files[2],
        "--diff",
        files[3],
        "--name",
        "all"
      )
    )
    try expectRestored("all", images[3], states[3])
    // One by one, each over the snapshot before.
    expectSuccess(try bench.tool.run("save", files[0], "--name", "s0", "--vm", "web"))
    for index in 1...3 {
      expectSuccess(
        try bench.tool.run("save", files[index], "--base", "s\(index - 1)", "--name", "s\(index)")
      )
      let shown = try bench.tool.json("show", "s\(index)")
      #expect(shown["vm"] as? String == "web")
      #expect(shown["parent"] as? String == "s\(index - 1)")
    }
    // Two of them over a snapshot, by their memory files.
    expectSuccess(
      try bench.tool.run(
        "save",
        "firecracker:\(files[2])/mem",
        "--diff",
        "\(files[3])/mem",
        "--base",
        "s1",
        "--name",
        "two"
      )
    )
    for (name, index) in [("s0", 0), ("s1", 1), ("s2", 2), ("s3", 3), ("two", 3)] {
      try expectRestored(name, images[index], states[index])
    }
    let digests = try ["all", "s3", "two"].map {
      try bench.tool.json("show", $0)["digest"] as? String
    }
    #expect(Set(digests).count == 1)
    #expect(try bench.tool.verify().succeeded)
    #expect(bench.leftovers.isEmpty)
  }

  private func run(_ arguments: [String]) throws -> ProcessOutcome {
    try bench.tool.start(arguments).wait()
  }

  /// The full snapshot and one diff over it, each with a vmstate beside it, all in one directory.
  private func writePair(_ names: (full: String, diff: String)) throws -> (
    path: (String) -> String, image: [UInt8], states: [[UInt8]]
  ) {
    let states = ["full", "diff"].map { name in
      var state = Self.state()
      state.bootArguments = name
      return state.bytes
    }
    let directory = bench.directory.file("pair")
    try #require(mkdir(directory, 0o700) == 0)
    let path: (String) -> String = { "\(directory)/\($0)" }
    let page = incompressibleRAM(1, seed: 77)
    var image = Self.ram
    image.replaceSubrange((7 << 12)..<(8 << 12), with: page)
    try writeFile(path("\(names.full).mem"), Self.ram)
    try writeMemoryFile(path("\(names.diff).mem"), byteCount: image.count, pages: [7: page])
    try writeFile(path("\(names.full).vmstate"), states[0])
    try writeFile(path("\(names.diff).vmstate"), states[1])
    return (path, image, states)
  }

  /// Memory of one moment with registers of another is a guest that crashes after it was restored.
  @Test func aChainTakesTheLastOnesVMState() throws {
    let (path, image, states) = try writePair((full: "web", diff: "web-1"))
    let chain = ["save", "firecracker:\(path("web.mem"))", "--diff", path("web-1.mem")]
    expectSuccess(try run(chain + ["--name", "found"]))
    try expectRestored("found", image, states[1])
    expectSuccess(
      try run(chain + ["--vmstate", path("web-1.vmstate"), "--name", "named"])
    )
    try expectRestored("named", image, states[1])
    expectFailure(
      try run(chain + ["--vmstate", path("web.vmstate"), "--name", "wrong"]),
      64,
      "--vmstate names \"\(path("web.vmstate"))\", and memory file \"\(path("web-1.mem"))\" has "
        + "\"\(path("web-1.vmstate"))\" beside it; --vmstate is that of the last memory file; name "
        + "\"\(path("web-1.vmstate"))\", or leave it out"
    )
    // Nothing is left that is named like the diff: by its name, the other one is the full snapshot's.
    try #require(unlink(path("web-1.vmstate")) == 0)
    let message =
      "vmstate file \"\(path("web.vmstate"))\" belongs to memory file \"\(path("web.mem"))\" by its name, "
      + "and not to \"\(path("web-1.mem"))\"; name the one that was written with "
      + "\"\(path("web-1.mem"))\" with --vmstate"
    expectFailure(try run(chain + ["--name", "none"]), 64, message)
    expectFailure(
      try run(chain + ["--vmstate", path("web.vmstate"), "--name", "none"]),
      64,
      message
    )
    #expect(try bench.tool.snapshotNames() == ["found", "named"])
  }

  /// Where names show nothing, the vmstate may belong to either memory file.
  @Test func aVMStateThatMayBelongToAnyOfAChainIsNamed() throws {
    let (path, image, states) = try writePair((full: "web", diff: "web-1"))
    try #require(unlink(path("web.vmstate")) == 0)
    try #require(rename(path("web-1.vmstate"), path("snapshot")) == 0)
    let outcome = try run(
      ["save", "firecracker:\(path("web.mem"))", "--diff", path("web-1.mem"), "--name", "a"]
    )
    #expect(outcome.succeeded, "\(outcome)")
    #expect(
      outcome.standardError
        == "vmckpt: warning: Firecracker vmstate file \"\(path("snapshot"))\" is taken for the one that was "
        + "written with \"\(path("web-1.mem"))\", the last memory file\n"
    )
    try expectRestored("a", image, states[1])
  }

  @Test func aDirectoryWithAVMStateTakesNoOther() throws {
    let full = try write("full", Self.ram, Self.state().bytes)
    let diff = try write("diff", Self.ram, Self.state().bytes)
    expectFailure(
      try bench.tool.run(
        "save",
        full,
        "--diff",
        diff,
        "--vmstate",
        "\(full)/snapshot_file",
        "--name",
        "a"
      ),
      64,
      "--vmstate names \"\(full)/snapshot_file\", and directory \"\(diff)\" has a vmstate file of its own; "
        + "leave --vmstate out, or give the memory file by its path"
    )
  }

  /// What is unchanged costs nothing.
  @Test func aDiffStoresItsPagesAlone() throws {
    let (files, _, _) = try writeChain()
    expectSuccess(try bench.tool.run("save", files[0], "--name", "s0"))
    let empty = bench.directory.file("empty")
    try #require(mkdir(empty, 0o700) == 0)
    try makeHole("\(empty)/mem", byteCount: 512 << 12)
    try writeFile("\(empty)/vmstate", Self.state().bytes)
    let saved = try bench.tool.json("save", empty, "--base", "s0", "--name", "s1")
    #expect(saved["new_pages"] as? Int == 0)
    try expectRestored("s1", Self.ram, Self.state().bytes)
  }

  /// Overlays may be on pages that the diff does not have.
  @Test func overlaysOnUnchangedPagesAreFound() throws {
    var ram = Self.ram
    HyperVPages.put(into: &ram)
    var state = Self.state()
    let base = try write("base", ram, state.bytes)
    expectSuccess(try bench.tool.run("save", base, "--name", "s0"))
    state.processors = (0..<2).map { HyperVPages.registers(vp: $0) }
    let diff = bench.directory.file("diff")
    try #require(mkdir(diff, 0o700) == 0)
    try writeMemoryFile("\(diff)/mem", byteCount: ram.count, pages: [300: sampleRAM(1)])
    try writeFile("\(diff)/vmstate", state.bytes)
    expectSuccess(try bench.tool.run("save", diff, "--base", "latest", "--name", "s1"))
    try expectOverlays("s1", bench, origin: "firecracker-msrs")
    ram.replaceSubrange((300 << 12)..<(301 << 12), with: sampleRAM(1))
    try expectRestored("s1", ram, state.bytes)
  }

  @Test func holesAreZerosWhereTheUserSaysSo() throws {
    let directory = bench.directory.file("sparse")
    try #require(mkdir(directory, 0o700) == 0)
    let page = incompressibleRAM(1)
    try writeMemoryFile("\(directory)/mem", byteCount: 512 << 12, pages: [7: page, 400: page])
    try writeFile("\(directory)/vmstate", Self.state().bytes)
    expectSuccess(try bench.tool.run("save", directory, "--base", "none", "--name", "a"))
    try expectRestored("a", readFile("\(directory)/mem"), Self.state().bytes)
    // A restored file has holes as well.
    expectSuccess(
      try bench.tool.run("save", bench.directory.file("a.out"), "--base", "none", "--name", "b")
    )
    try expectRestored("b", readFile("\(directory)/mem"), Self.state().bytes)
  }

  @Test func aDiffWithoutHolesIsNamed() throws {
    let directory = try write("web", Self.ram, Self.state().bytes)
    let outcome = try bench.tool.run("save", directory, "--diff", directory, "--name", "a")
    #expect(outcome.succeeded, "\(outcome)")
    #expect(
      outcome.standardError
        == "vmckpt: warning: Firecracker memory file \"\(directory)/mem_file\" has no hole, and so replaces "
        + "all of RAM; a copy of a diff must keep its holes\n"
    )
  }
}
