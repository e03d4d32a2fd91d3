import Testing
import VMCheckpointTestSupport

/// A snapshot of propolis-standalone that comes back with a member changed, moved or lost does not
/// start again.
@Suite struct PropolisTests {
  private static let overlays =
    #"{"msr_guest_os_id":9295436232257437696,"msr_hypercall":16387,"#
    + #""reference_tsc":{"msr_value":20481,"guest_freq":2400000000}}"#

  /// Saves an archive and restores it to a file and to a stream.
  private func expectRoundTrip(_ bench: Workbench, _ archive: String, _ name: String) throws {
    let bytes = try readFile(archive)
    expectSuccess(try bench.tool.run("save", "propolis:\(archive)", "--name", name))
    let out = bench.directory.file("\(name).out")
    expectSuccess(try bench.tool.run("restore", name, "-o", out, "--format", "propolis"))
    #expect(try readFile(out) == bytes)
    #expect(try fileMode(out) == 0o600)
    let stream = try bench.tool.run("restore", name, "-o", "-", "--format", "propolis")
    #expect(stream.succeeded, "\(stream.standardError)")
    #expect(stream.standardOutput == bytes)
    #expect(try bench.tool.verify().succeeded)
    #expect(bench.leftovers.isEmpty)
  }

  @Test(arguments: [TarBuilder.Format.gnu, .ustar])
  func everyByteComesBack(format: TarBuilder.Format) throws {
    let bench = try Workbench()
    let sample = PropolisSample(mebibytes: 2)
    try expectRoundTrip(
      bench,
      try bench.write("web-1764000000000.tar", sample.archive(format: format).bytes),
      "a"
    )
    #expect(try bench.tool.restored("a", in: bench.directory) == sample.ram)
  }

  /// A person writes the configuration, and TOML has many ways to say the same.
  @Test(arguments: [
    "[ main ] # the guest\nmemory = 0x1", "main.memory = 1", "main = { cpus = 2, memory = 1 }",
    "\u{feff}[\"main\"]\r\n'memory' = +1 # MiB\r\n", "[main]\nmemory = 0b1\n[[disk]]\nmemory = 7",
    "[main.cpu]\nmemory = 7\n[main]\nmemory = 1\n[other]\nmemory = 7",
    "x = [\"[main]\", { memory = 7 }, # ]\n  [1.5, nan,],]\ny = \"\"\"\n[main]\nmemory = 7 \\\"\"\"\"\"\"\n[main]\nmemory = 1",
    "x = '''\nmain.memory = 7\\'''\ny = '\"\\'\nz = \"\\\"#\"\nt = 1979-05-27 07:32:00.5+01:00\nmain.memory = 1",
  ])
  func theGuestsMemoryIsFoundInAnyTOML(config: String) throws {
    let bench = try Workbench()
    var sample = PropolisSample()
    sample.config = config
    let archive = try bench.write("web.tar", sample.archive().bytes)
    expectSuccess(try bench.tool.run("save", "propolis:\(archive)"))
  }

  /// GNU tar writes other headers than Propolis: owners' names, blocks of 10 KiB, and, told so, POSIX's
  /// extended headers. What it reads out of a restored archive is what went in.
  @Test(arguments: ["gnu", "ustar", "posix"])
  func anArchiveOfGNUTarComesBack(format: String) throws {
    let bench = try Workbench()
    let sample = PropolisSample()
    let root = bench.directory.file("root")
    for directory in [root, "\(root)/devices", "\(root)/memory"] {
      try #require(try run(["/bin/mkdir", directory]).succeeded)
    }
    var members = [
      "config.toml": Array(sample.config.utf8), "global.json": Array(sample.global.utf8),
      sample.memoryName: sample.ram,
    ]
    for device in sample.devices {
      members["devices/\(device.name).json"] = Array(device.json.utf8)
    }
    for (name, bytes) in members { try writeFile("\(root)/\(name)", bytes) }
    let archive = bench.directory.file("packed.tar")
    let tar = try run([
      "/bin/tar", "--format=\(format)", "-C", root, "-cf", archive, "memory", "config.toml",
      "devices", "global.json",
    ])
    #expect(tar.succeeded, "\(tar)")
    try expectRoundTrip(bench, archive, "packed")
    for (name, bytes) in members {
      let member = try run(["/bin/tar", "-xOf", bench.directory.file("packed.out"), name])
      #expect(member.standardOutput == bytes, "\(name)")
    }
  }

  /// GNU tar gives a name of more than 100 bytes a header of its own.
  @Test func aLongNameComesBack() throws {
    let bench = try Workbench()
    var sample = PropolisSample()
    let device = String(repeating: "n", count: 120)
    var tar = sample.beginning()
    let name = "devices/\(device).json"
    tar.append(TarBuilder.header("././@LongLink", byteCount: name.utf8.count + 1, type: "L"))
    tar.appendData(Array(name.utf8) + [0])
    tar.file(name, PropolisSample.device(device, kind: "block-nvme", data: "{}"))
    tar.file(sample.memoryName, sample.ram)
    tar.end()
    try expectRoundTrip(bench, try bench.write("long.tar", tar.bytes), "long")
    let states = try bench.tool.json("show", "long")["device_states"] as? [[String: Any]] ?? []
    #expect(states.last?["name"] as? String == name)
    sample.devices = []
    let empty = try bench.write("empty.tar", sample.archive().bytes)
    expectFailure(
      try bench.tool.run("save", "propolis:\(empty)"),
      65,
      "Propolis snapshot \"\(empty)\" has no device in devices/"
    )
  }

  @Test func membersBecomeDeviceStatesInOrder() throws {
    let bench = try Workbench()
    let archive = try bench.write("web-1764000000000.tar", PropolisSample().archive().bytes)
    expectSuccess(try bench.tool.run("save", "propolis:\(archive)"))
    let shown = try bench.tool.json("show", "latest")
    #expect(shown["vm"] as? String == "web")
    #expect(shown["source"] as? String == "propolis:\(archive)")
    let states = shown["device_states"] as? [[String: Any]] ?? []
    #expect(
      states.map { "\($0["name"] ?? "") \($0["format"] ?? "") \($0["version"] ?? "")" } == [
        "propolis-tar-headers propolis-tar-headers 1",
        "config.toml propolis-config 1",
        "global.json propolis-global 1",
        "devices/bhyve-apic.json propolis-device 1",
        "devices/vcpu-0.json propolis-device 1",
      ]
    )
    // A second snapshot of the VM descends from the first, and shares its pages.
    var next = PropolisSample()
    next.global = #"{"boot_hrtime":5}"#
    let later = try bench.write("web-1764000099999.tar", next.archive().bytes)
    let saved = try bench.tool.json("save", "propolis:\(later)")
    #expect(saved["vm"] as? String == "web")
    #expect((saved["parent"] as? String)?.hasPrefix("web-1764000000000-") == true)
    #expect(saved["new_pages"] as? Int == 0)
  }

  @Test func overlaysBecomeRecordsWithoutBeingAsked() throws {
    let bench = try Workbench()
    var sample = PropolisSample(mebibytes: 1)
    sample.addHyperV(Self.overlays)
    let archive = try bench.write("hv.tar", sample.archive().bytes)
    try expectRoundTrip(bench, archive, "hv")
    let output = try bench.tool.json("show", "hv")
    #expect(output["overlay_origin"] as? String == "propolis-device-state")
    let shown = output["overlays"] as? [String: Any] ?? [:]
    #expect(shown["guest_os_id"] as? String == "0x8100060100000000")
    let records = shown["overlays"] as? [[String: Any]] ?? []
    #expect(records.map { $0["kind"] as? String } == ["hypercall", "reference-tsc"])
    #expect(records.map { $0["pfn"] as? String } == ["0x4", "0x5"])
    #expect(records.first?["msr_bits"] as? String == "0x2")
    #expect(records.last?["tsc_frequency_hz"] as? Int == 2_400_000_000)
    // As a raw file RAM shows them; in the archive it stays bare.
    let ram = try bench.tool.restored("hv", in: bench.directory)
    #expect(Array(ram[0x4000..<0x4008]) == [0x48, 0xc7, 0xc0, 2, 0, 0, 0, 0xc3])
    let given = try bench.write("o.json", #"{"format":1,"guest_os_id":1,"overlays":[]}"#)
    expectFailure(
      try bench.tool.run("save", "propolis:\(archive)", "--overlays", given),
      64,
      "Propolis snapshot \"\(archive)\" describes its overlays itself; give no overlays"
    )
  }

  @Test(arguments: [
    (
      #"{"msr_guest_os_id":0,"msr_hypercall":16385,"reference_tsc":null}"#, 1,
      "has a bad guest-hyperv-interface: the hypercall page is enabled while the guest OS ID is 0"
    ),
    (
      #"{"msr_guest_os_id":1,"msr_hypercall":1048577,"reference_tsc":null}"#, 1,
      "has a bad guest-hyperv-interface: the hypercall page is at PFN 0x100, which is outside the "
        + "guest's RAM; check the guest's RAM size"
    ),
    (
      #"{"msr_guest_os_id":1,"msr_hypercall":0,"reference_tsc":{"msr_value":1,"guest_freq":0}}"#, 1,
      "has a bad guest-hyperv-interface: the guest's TSC frequency is 0 Hz; "
        + "expected 1 to 9223372036854775807"
    ),
    (
      #"{"msr_guest_os_id":1,"msr_hypercall":0}"#, 1,
      "has a bad guest-hyperv-interface: reference_tsc: missing"
    ),
    (
      #"{}"#, 2,
      "has version 2 of guest-hyperv-interface; this version of vmckpt reads version 1"
    ),
  ])
  func badOverlaysAreRefused(data: String, version: Int, message: String) throws {
    let bench = try Workbench()
    var sample = PropolisSample(mebibytes: 1)
    sample.addHyperV(data, version: version)
    let archive = try bench.write("hv.tar", sample.archive().bytes)
    expectFailure(
      try bench.tool.run("save", "propolis:\(archive)"),
      65,
      "Propolis snapshot \"\(archive)\" is not usable: devices/hyperv.json \(message)"
    )
    #expect(!exists(bench.storePath))
  }

  /// 12 GiB: a hole below 4 GiB, and a member whose size has no octal number.
  @Test func aLargeGuestTakesNeitherMemoryNorDisk() throws {
    let bench = try Workbench()
    var sample = PropolisSample()
    sample.config = PropolisSample.config(mebibytes: 12 << 10)
    let (low, high) = (3 << 30, 9 << 30)
    var generator = TestGenerator(seed: 5)
    let head = sample.beginning().bytes
    let first = TarBuilder.header("memory/00000000-c0000000.bin", byteCount: low)
    let second = TarBuilder.header(
      "memory/100000000-340000000.bin",
      size: TarBuilder.base256(UInt64(high))
    )
    let lowOffset = head.count + 512
    let highOffset = lowOffset + low + 512
    let size = highOffset + high + 1024
    var parts: [(offset: Int, bytes: [UInt8])] = [
      (0, head), (head.count, first), (lowOffset + low, second),
    ]
    for offset in [lowOffset, lowOffset + low - 4096, highOffset, highOffset + high - 4096] {
      parts.append((offset, generator.incompressiblePage()))
    }
    for _ in 0..<40 {
      let page = generator.int(0...((high >> 12) - 80))
      parts.append((highOffset + page << 12, generator.mixedImage(pageCount: 60)))
    }
    let archive = bench.directory.file("large.tar")
    try writeSparseFile(archive, byteCount: size, parts)

    for arguments in [
      ["save", "propolis:\(archive)", "--name", "large"],
      ["restore", "large", "-o", "\(archive).out", "--format", "propolis"],
    ] {
      let outcome = try bench.tool.start(arguments).wait()
      expectSuccess(outcome)
      #expect(outcome.maximumResidentByteCount < 256 << 20, "\(arguments)")
    }
    #expect(try fileSize("\(archive).out").byteCount == size)
    #expect(try fileSize("\(archive).out").allocated < 64 << 20, "the archive is not sparse")
    for (offset, bytes) in parts {
      // Later parts may lie over earlier ones.
      #expect(
        try readFile("\(archive).out", at: offset, byteCount: bytes.count)
          == readFile(archive, at: offset, byteCount: bytes.count)
      )
    }
    let regions = try bench.tool.json("show", "large")["memory_regions"] as? [[String: Any]] ?? []
    #expect(regions.map { $0["gpa"] as? Int } == [0, 4 << 30])
    #expect(regions.map { $0["bytes"] as? Int } == [low, high])
  }

  /// A store that lost a member must not give an archive without it.
  @Test(arguments: [
    ("DELETE FROM device_state WHERE name = 'global.json'", "lacks its member \"global.json\""),
    (
      "UPDATE device_state SET format = 'x' WHERE name = 'devices/vcpu-0.json'",
      "lacks its member \"devices/vcpu-0.json\""
    ),
  ])
  func aDamagedStoreGivesNoArchive(sql: String, message: String) throws {
    let bench = try Workbench()
    let archive = try bench.write("web.tar", PropolisSample().archive().bytes)
    expectSuccess(try bench.tool.run("save", "propolis:\(archive)", "--name", "web"))
    _ = try bench.sql.run(sql)
    let out = bench.directory.file("out.tar")
    expectFailure(
      try bench.tool.run("restore", "web", "-o", out, "--format", "propolis"),
      65,
      "snapshot \"web\" is damaged: its Propolis snapshot \(message); "
        + "see what else is hurt with: vmckpt verify"
    )
    #expect(!exists(out))
  }

  @Test func anArchiveThatExistsIsNotReplaced() throws {
    let bench = try Workbench()
    let archive = try bench.write("web.tar", PropolisSample().archive().bytes)
    expectSuccess(try bench.tool.run("save", "propolis:\(archive)", "--name", "web"))
    expectFailure(
      try bench.tool.run("restore", "web", "-o", archive, "--format", "propolis"),
      73,
      "\"\(archive)\" exists already; give another path, or --force to replace it"
    )
    try writeFile(archive, "other")
    expectSuccess(
      try bench.tool.run("restore", "web", "-o", archive, "--format", "propolis", "--force")
    )
    #expect(try readFile(archive) == PropolisSample().archive().bytes)
  }

  @Test func whatCannotBeMeantIsRefused() throws {
    let bench = try Workbench()
    try bench.save("raw", sampleRAM(20))
    let out = bench.directory.file("out.tar")
    expectFailure(
      try bench.tool.run("restore", "raw", "-o", out, "--format", "propolis"),
      64,
      "snapshot \"raw\" has no state of Propolis, and cannot become a snapshot of it; "
        + "its RAM alone is written by: --format raw"
    )
    expectFailure(
      try bench.tool.start(
        ["restore", "raw", "-o", out, "--format", "propolis", "--overlays", "apply"]
      ).wait(),
      64,
      "--overlays apply does not go with --format propolis: its RAM is bare; "
        + "leave it out: the VMM lays its overlays over RAM itself"
    )
    expectFailure(
      try bench.tool.start(
        ["restore", "raw", "-o", out, "--format", "propolis", "--cpu-vendor", "amd"]
      ).wait(),
      64,
      "--tsc-frequency and --cpu-vendor do not go with --format propolis; "
        + "leave them out: what was saved is written as it was"
    )
    expectFailure(
      try bench.tool.run("save", "propolis:\(out)", "--qemu-machine", "q35"),
      64,
      "a source in the format propolis says itself where its RAM lies; "
        + "leave --region, --qemu-machine and --ram-size out"
    )
    expectFailure(
      try bench.tool.run("save", "propolis:-"),
      64,
      "a Propolis snapshot cannot be read from standard input; "
        + "give its file: its RAM is read in place, and the archive's order may be any"
    )
    expectFailure(
      try bench.tool.run("save", "propolis:\(out)"),
      66,
      "there is no Propolis snapshot \"\(out)\""
    )
    #expect(!exists(out))
    let pipe = try run(["/usr/bin/mkfifo", bench.directory.file("pipe")])
    #expect(pipe.succeeded)
    expectFailure(
      try bench.tool.run("save", "propolis:\(bench.directory.file("pipe"))"),
      65,
      "Propolis snapshot \"\(bench.directory.file("pipe"))\" is neither a file nor a block device; "
        + "give the archive as a file, not compressed: its RAM is read in place"
    )
  }
}
