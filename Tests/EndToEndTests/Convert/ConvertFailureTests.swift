import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// A conversion that fails or is stopped leaves neither a target nor RAM in a temporary file.
@Suite struct ConvertFailureTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// Cuts the file that SOURCE is, or that a pipe is fed from.
  private func cut(_ arguments: ConvertSource.Arguments) throws {
    let path: String
    if case .file(let fed) = arguments.input {
      path = fed
    } else {
      let word = arguments.words[0]
      let named = word.contains(":") ? String(word.split(separator: ":")[1]) : word
      path =
        ["memory-ranges", "mem_file"].map { "\(named)/\($0)" }.first(where: exists)
        ?? (named.hasSuffix(".vmss") ? "\(named.dropLast(5)).vmem" : named)
    }
    let size = try fileSize(path).byteCount
    #expect(truncate(path, off_t(size - 3000)) == 0)
  }

  @Test(.slow, arguments: ConvertSource.allCases)
  func aSourceThatIsCutShortLeavesNoTarget(source: ConvertSource) throws {
    let arguments = try source.make(in: bench)
    try cut(arguments)
    let entries = bench.directory.entries
    for format in ["raw", "elf", "lime"] {
      let target = bench.directory.file("out")
      let overlays = bench.directory.file("out.json")
      let outcome = try bench.tool.start(
        ["convert", "-o", target, "--format", format, "--overlays-out", overlays]
          + arguments.words,
        input: arguments.input
      ).wait()
      // With regions, a stream that ends before them is one that could not be read.
      #expect([.exit(65), .exit(74)].contains(outcome.ending), "\(format): \(outcome)")
      #expect(outcome.standardError.split(separator: "\n").last?.hasPrefix("vmckpt: ") == true)
      #expect(bench.directory.entries == entries, "\(format)")
    }
  }

  /// What was there stays there.
  @Test func aFailureLeavesTheOldTarget() throws {
    let target = try bench.write("out", "old")
    let core = try ConvertSource.elf.make(in: bench)
    try cut(core)
    let outcome = try bench.tool.run(
      "convert",
      core.words[0],
      "-o",
      target,
      "--format",
      "lime",
      "--force"
    )
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(try readFile(target) == Array("old".utf8))
  }

  @Test func nothingIsReadForATargetThatCannotBeMade() throws {
    let path = try bench.write("guest.ram", sampleRAM(4))
    let target = try bench.write("out", "old")
    let missing = bench.directory.file("missing/out")
    let pipe = try ChildPipe()
    // The pipe stays open and empty: who reads it waits.
    for (output, code, message) in [
      (target, 73, "\"\(target)\" exists already; give another path, or --force to replace it"),
      (
        missing, 73,
        "cannot create \"\(missing)\": No such file or directory; make its folder first, or give "
          + "another path"
      ),
    ] {
      let outcome = try bench.tool.start(
        ["convert", "-", "-o", output, "--format", "elf"],
        input: .descriptor(pipe.reader)
      ).wait()
      expectFailure(outcome, Int32(code), message)
    }
    let directory = bench.directory.file("there")
    try #require(mkdir(directory, 0o700) == 0)
    expectFailure(
      try bench.tool.run("convert", path, "-o", directory, "--format", "firecracker"),
      73,
      "\"\(directory)\" exists already; give another path, or remove it; a directory is not replaced, not with "
        + "--force either"
    )
  }

  /// Files that the command line does not name: `--force` would destroy the source.
  @Test func noFileOfASourceIsWrittenOver() throws {
    let state = FirecrackerBuilder(8, [.init(0, 1 << 20)]).bytes
    let directory = bench.directory.file("web")
    try #require(mkdir(directory, 0o700) == 0)
    let contents: [String: [UInt8]] = ["memory": incompressibleRAM(256), "vmstate": state]
    for (name, bytes) in contents { try writeFile("\(directory)/\(name)", bytes) }
    let link = bench.directory.file("link")
    try #require(Glibc.link("\(directory)/vmstate", link) == 0)
    let memory = "firecracker:\(directory)/memory"
    let cases: [[String]] = [
      ["firecracker:\(directory)", "-o", "\(directory)/memory"],
      ["firecracker:\(directory)", "-o", "\(directory)/vmstate"],
      ["firecracker:\(directory)", "-o", link],
      [memory, "-o", "\(directory)/vmstate"],
      [memory, "-o", bench.directory.file("x"), "--overlays-out", "\(directory)/vmstate"],
      [memory, "--diff", directory, "-o", "\(directory)/memory"],
      ["cloud-hypervisor:\(directory)", "-o", "\(directory)/vmstate"],
    ]
    for arguments in cases {
      let outcome = try bench.tool.start(["convert"] + arguments + ["--format", "elf", "--force"])
        .wait()
      #expect(outcome.ending == ProcessEnding.exit(64), "\(arguments): \(outcome)")
      #expect(outcome.standardError.contains("is read, and cannot be written as well"))
    }
    for (name, bytes) in contents {
      #expect(try readFile("\(directory)/\(name)") == bytes, "\(name)")
    }
  }

  /// A program may have opened it for reading and writing, which a shell does by `1<>`.
  @Test func standardOutputIsNotWhatIsRead() throws {
    let ram = incompressibleRAM(64)
    let path = try bench.write("guest.ram", ram)
    try bench.save("a", ram)
    let store = try readFile(bench.storePath)
    for (arguments, target, code) in [
      (["convert", path, "-o", "-", "--format", "elf"], path, 64),
      (["restore", "a", "-o", "-"], bench.storePath, 73),
    ] {
      let descriptor = open(target, O_RDWR | O_CLOEXEC)
      try #require(descriptor >= 0)
      defer { close(descriptor) }
      let outcome = try bench.tool.start(arguments, outputDescriptor: descriptor).wait()
      #expect(outcome.ending == .exit(Int32(code)), "\(outcome)")
      #expect(outcome.standardError.hasPrefix("vmckpt: standard output is "), "\(outcome)")
    }
    #expect(try readFile(path) == ram)
    #expect(try readFile(bench.storePath) == store)
  }

  @Test func refusalsOfTheCommandLine() throws {
    let path = try bench.write("guest.ram", sampleRAM(4))
    let link = bench.directory.file("link")
    try #require(symlink(path, link) == 0)
    let overlays = try bench.write("o.json", #"{"format": 1, "overlays": []}"#)
    let xml = try bench.write("x.xml", "<domain/>")
    let same = "is read, and cannot be written as well; give another path"
    let out = bench.directory.file("out")
    for (arguments, code, message) in [
      ([path, "-o", path, "--format", "raw", "--force"], 64, "\"\(path)\" \(same)"),
      ([path, "-o", link, "--format", "raw", "--force"], 64, "\"\(link)\" \(same)"),
      (
        [path, "--overlays", overlays, "-o", overlays, "--format", "raw", "--force"], 64,
        "\"\(overlays)\" \(same)"
      ),
      (
        [path, "-o", out, "--format", "raw", "--overlays-out", path, "--force"], 64,
        "\"\(path)\" \(same)"
      ),
      (
        [path, "-o", out, "--format", "raw", "--xml", xml], 64,
        "--xml goes with --format libvirt-save; leave it out"
      ),
      (
        [path, "-o", out, "--format", "propolis", "--cpu-vendor", "amd"], 64,
        "--tsc-frequency and --cpu-vendor do not go with --format propolis; leave them out: what was saved is "
          + "written as it was"
      ),
      (
        [path, "-o", out, "--format", "raw", "--leave-stopped"], 64,
        "--leave-stopped goes with a SOURCE of qemu:; leave it out"
      ),
      (
        [path, "-o", out, "--format", "raw", "--base", "none"], 64,
        "--base, --diff and --vmstate go with a SOURCE of firecracker:; leave them out"
      ),
      (
        [path, "-o", out, "--format", "firecracker"], 64,
        "SOURCE \"raw:\(path)\" has no state of Firecracker, and cannot become a snapshot of it; its RAM alone "
          + "is written by: --format raw"
      ),
      (
        [path, "-o", out, "--format", "cloud-hypervisor"], 64,
        "SOURCE \"raw:\(path)\" has no state of Cloud Hypervisor, and cannot become a snapshot of it; its RAM "
          + "alone is written by: --format raw"
      ),
      (
        [path, "-o", out, "--format", "propolis"], 64,
        "SOURCE \"raw:\(path)\" has no state of Propolis, and cannot become a snapshot of it; its RAM alone is "
          + "written by: --format raw"
      ),
      (
        [path, "-o", out, "--format", "qemu-stream"], 64,
        "SOURCE \"raw:\(path)\" has no device state of QEMU; its RAM alone is written by --format raw; "
          + "qemu-stream: or qemu: as the source has both"
      ),
    ] {
      let outcome = try bench.tool.start(["convert"] + arguments).wait()
      expectFailure(outcome, Int32(code), message)
      #expect(!exists(out))
    }
    #expect(try readFile(path) == sampleRAM(4))
    #expect(!exists(bench.storePath))
  }

  @Test func theStoreIsNotOverwritten() throws {
    try bench.save("a", sampleRAM(4))
    let path = try bench.write("guest.ram", sampleRAM(4))
    for arguments in [
      ["-o", bench.storePath],
      ["-o", bench.directory.file("out"), "--overlays-out", bench.storePath],
    ] {
      expectFailure(
        try bench.tool.start(["convert", path, "--format", "raw", "--force"] + arguments).wait(),
        73,
        "cannot create \"\(bench.storePath)\": it belongs to the store; give another path"
      )
    }
    #expect(try bench.tool.verify().succeeded)
  }

  @Test(arguments: [SIGINT, SIGTERM])
  func anInterruptedConversionLeavesNothing(signal: Int32) throws {
    let overlays = bench.directory.file("o.json")
    for format in ["raw", "elf", "lime"] {
      let pipe = try ChildPipe()
      let entries = bench.directory.entries
      let child = try bench.tool.start(
        [
          "convert", "-", "--region", "gpa=0,size=64M", "-o", bench.directory.file("out"),
          "--overlays-out", overlays, "--format", format,
        ],
        input: .descriptor(pipe.reader)
      )
      // More than the pipe holds: it is being read.
      try pipe.write(incompressibleRAM(512))
      #expect(!bench.leftovers.isEmpty)
      child.send(signal)
      let outcome = try child.wait()
      #expect(outcome.ending == .signal(signal), "\(outcome)")
      #expect(bench.directory.entries == entries, "\(format)")
    }
  }

  /// The target never has a part of RAM, and RAM that was put down has no name.
  @Test func aConversionThatIsKilledLeavesNoTarget() throws {
    for (words, leftoverCount) in [
      (["--region", "gpa=0,size=64M", "--format", "raw"], 1), (["--format", "elf"], 0),
    ] {
      let directory = try bench.directory.subdirectory("\(leftoverCount)")
      let pipe = try ChildPipe()
      let child = try bench.tool.start(
        ["convert", "-", "-o", "\(directory)/out"] + words,
        input: .descriptor(pipe.reader)
      )
      try pipe.write(incompressibleRAM(512))
      child.send(SIGKILL)
      #expect(try child.wait().ending == .signal(SIGKILL))
      let names = directoryEntries(directory)
      #expect(names.count == leftoverCount && names.allSatisfy { $0.hasSuffix(".tmp") }, "\(names)")
    }
  }

  /// A reader of the target that goes away ends the conversion, and its temporary file is gone.
  @Test func aReaderThatGoesAwayEndsTheConversion() throws {
    let path = try bench.write("guest.ram", incompressibleRAM(2000))
    let pipe = try ChildPipe()
    let child = try bench.tool.start(
      ["convert", path, "-o", "-", "--format", "elf"],
      outputDescriptor: pipe.writerForChild
    )
    pipe.closeWriter()
    _ = try pipe.read(upTo: 4096)
    pipe.closeReader()
    let outcome = try child.wait()
    #expect(outcome.ending == .exit(74), "\(outcome)")
  }

  /// Several GiB, almost all of them holes, and a pipe of as many: memory must not grow with them.
  @Test(.slow) func memoryStaysBounded() throws {
    let byteCount = 4 << 30
    let source = bench.directory.file("ram")
    try makeHole(source, byteCount: byteCount)
    var generator = TestGenerator(seed: 1)
    for offset in stride(from: 0, to: byteCount, by: 64 << 20) {
      try patchFile(source, at: offset, generator.mixedImage(pageCount: 600))
    }
    try patchFile(source, at: byteCount - 4096, generator.incompressiblePage())
    let target = bench.directory.file("out")
    for (words, input) in [
      ([source, "--format", "elf"], ChildProcess.Input.null),
      ([source, "--format", "raw"], .null),
      (["-", "--format", "lime"], .file(source)),
    ] {
      let outcome = try bench.tool.start(
        ["convert", "-o", target, "--force"] + words,
        input: input
      ).wait()
      #expect(outcome.succeeded, "\(outcome)")
      #expect(
        outcome.maximumResidentByteCount < 96 << 20,
        "\(outcome.maximumResidentByteCount >> 20) MiB: \(words)"
      )
      #expect(try fileSize(target).allocated < 512 << 20)
    }
  }
}
