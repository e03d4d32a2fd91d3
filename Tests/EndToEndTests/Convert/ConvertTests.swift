import Foundation
import Testing
import VMCheckpointTestSupport

/// A conversion that gives other bytes than a save and a restore of the same has changed the guest.
@Suite struct ConvertTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// What is at a path: a file's bytes, or those of each file of a directory.
  private func contents(_ path: String) throws -> [String: [UInt8]] {
    let names = directoryEntries(path)
    guard !names.isEmpty else { return ["": try readFile(path)] }
    return try Dictionary(uniqueKeysWithValues: names.map { ($0, try readFile("\(path)/\($0)")) })
  }

  @Test(.slow, arguments: ConvertSource.allCases)
  func everyPairOfFormatsIsASaveAndARestore(source: ConvertSource) throws {
    let arguments = try source.make(in: bench)
    let saved = try bench.tool.start(
      ["save", "--name", "a"] + arguments.words,
      input: arguments.input
    ).wait()
    #expect(saved.succeeded, "\(saved)")
    let shown = try bench.tool.json("show", "a")
    for format in ConvertSource.formats {
      let restoredPath = bench.directory.file("restored.\(format)")
      let convertedPath = bench.directory.file("converted.\(format)")
      let (described, alsoDescribed) = ("\(restoredPath).json", "\(convertedPath).json")
      let restored = try bench.tool.run(
        "restore",
        "a",
        "--format",
        format,
        "-o",
        restoredPath,
        "--overlays-out",
        described
      )
      let outcome = try bench.tool.start(
        ["convert", "-o", convertedPath, "--format", format, "--overlays-out", alsoDescribed]
          + ["--json"] + arguments.words,
        input: arguments.input
      ).wait()
      #expect(restored.succeeded == source.writableFormats.contains(format), "\(restored)")
      #expect(outcome.ending == restored.ending, "\(format): \(outcome)")
      guard restored.succeeded else {
        #expect(!exists(convertedPath) && !exists(alsoDescribed))
        continue
      }
      let bytes = try contents(restoredPath)
      #expect(try contents(convertedPath) == bytes, "\(format)")
      #expect(try readFile(alsoDescribed) == readFile(described), "\(format)")
      #expect(
        try fileMode(convertedPath) == (directoryEntries(convertedPath).isEmpty ? 0o600 : 0o700)
      )
      let result = try outcome.jsonObject()
      #expect(result["stored_pages"] as? Int == shown["stored_pages"] as? Int)
      #expect(result["absent_pages"] as? Int == shown["absent_pages"] as? Int)
      #expect(result["ram_bytes"] as? Int == shown["ram_bytes"] as? Int)
      // A pipe gets the same.
      guard bytes.count == 1, let file = bytes[""] else { continue }
      let stream = try bench.tool.start(
        ["convert", "-o", "-", "--format", format] + arguments.words,
        input: arguments.input
      ).wait()
      #expect(stream.succeeded, "\(stream.standardError)")
      #expect(stream.standardOutput == file, "\(format) to a pipe")
    }
    #expect(bench.leftovers.isEmpty)
  }

  /// What `restore` is told of the host that the guest goes to, and of its overlays.
  @Test func theOptionsOfRestoreMeanTheSame() throws {
    let path = try bench.write("guest.ram", ConvertSource.ram())
    let overlays = try ConvertSource.overlays(pfns: [900, 3, 950, 5], in: bench)
    try bench.tool.succeed("save", path, "--overlays", overlays, "--name", "a")
    func compare(_ restoring: [String], _ converting: [String]) throws {
      let (first, second) = (bench.directory.file("first"), bench.directory.file("second"))
      for (arguments, target) in [
        (["restore", "a"] + restoring, first),
        (["convert", path, "--format", "raw", "--overlays", overlays] + converting, second),
      ] {
        let outcome = try bench.tool.start(
          arguments + ["-o", target, "--overlays-out", "\(target).json", "--force"]
        ).wait()
        #expect(outcome.succeeded, "\(outcome)")
      }
      #expect(try readFile(first) == readFile(second), "\(converting)")
      #expect(try readFile("\(first).json") == readFile("\(second).json"), "\(converting)")
    }
    try compare([], [])
    try compare(["--overlays", "omit"], ["--bare"])
    let host = ["--tsc-frequency", "3G", "--cpu-vendor", "amd"]
    try compare(host, host)
    // Not looked for, and so not there.
    let tar = try ConvertSource.propolis.make(in: bench).words[0]
    let (bare, shown) = (bench.directory.file("bare"), bench.directory.file("shown"))
    try bench.tool.succeed(
      "convert",
      tar,
      "--overlays",
      "none",
      "-o",
      bare,
      "--format",
      "raw"
    )
    try bench.tool.succeed("convert", tar, "-o", shown, "--format", "raw")
    #expect(try readFile(bare) != readFile(shown))
  }

  @Test func whatTheFormatCannotHoldIsNamed() throws {
    let stream = try ConvertSource.qemuStream.make(in: bench).words[0]
    let target = bench.directory.file("out")
    func warnings(_ arguments: [String]) throws -> [String] {
      let outcome = try bench.tool.start(["convert"] + arguments + ["-o", target, "--force"]).wait()
      #expect(outcome.succeeded, "\(outcome)")
      return outcome.standardError.split(separator: "\n").map(String.init)
    }
    #expect(
      try warnings([stream, "--format", "lime"]) == [
        "vmckpt: warning: the format lime does not keep the device states \"qemu-machine\", "
          + "\"qemu-stream\""
      ]
    )
    #expect(try warnings([stream, "--format", "qemu-stream"]).isEmpty)
    let ram = try bench.write("guest.ram", ConvertSource.ram())
    let overlays = try ConvertSource.overlays(pfns: [900, 3, 950, 5], in: bench)
    let given = [ram, "--overlays", overlays, "--format", "raw"]
    let shown = try warnings(given)
    #expect(
      shown.first
        == "vmckpt: warning: the format raw does not describe the guest's 5 overlays, and has only the "
        + "bytes that RAM shows"
    )
    // RAM that does not show an overlay's bytes is told of, as by save.
    #expect(shown.dropFirst().allSatisfy { $0.contains("does not show the bytes of its") })
    #expect(shown.count == 4, "\(shown)")
    #expect(
      try warnings(given + ["--bare"]).first
        == "vmckpt: warning: the format raw does not describe the guest's 5 overlays"
    )
    let described = bench.directory.file("overlays-out.json")
    #expect(try warnings(given + ["--overlays-out", described]).count == 3)
    let kdump = try ConvertSource.kdump.make(in: bench).words[0]
    let absent = try warnings([kdump, "--format", "elf"])
    #expect(
      absent.contains(
        "vmckpt: warning: 800 pages of the guest are absent, because the source leaves them out; they are "
          + "written as zeros"
      ),
      "\(absent)"
    )
    // What a source describes itself is in what is kept of it.
    let directory = try ConvertSource.cloudHypervisor.make(in: bench).words[0]
    let copy = try bench.tool.run(
      "convert",
      directory,
      "--format",
      "cloud-hypervisor",
      "-o",
      bench.directory.file("copy")
    )
    expectSuccess(copy)
  }

  /// Two passes over RAM, of which each finds the same.
  @Test func aPageWithOtherBytesIsNamedOnce() throws {
    let ram = try bench.write("guest.ram", ConvertSource.ram())
    let overlays = try ConvertSource.overlays(pfns: [900, 3, 950, 5], in: bench)
    let outcome = try bench.tool.run(
      "convert",
      ram,
      "--overlays",
      overlays,
      "--format",
      "elf",
      "-o",
      "-"
    )
    let lines = outcome.standardError.split(separator: "\n")
    #expect(lines.filter { $0.contains("does not show the bytes") }.count == 3, "\(lines)")
  }

  @Test func theStreamsOfPipesAreNotMixedWithTheReport() throws {
    let path = try bench.write("guest.ram", ConvertSource.ram())
    let outcome = try bench.tool.run(
      "convert",
      "-",
      "-o",
      "-",
      "--format",
      "raw",
      "--json",
      input: .file(path)
    )
    #expect(outcome.standardOutput == (try ConvertSource.ram()))
    let report = try JSONSerialization.jsonObject(with: Data(outcome.standardError.utf8))
    let result = try #require(report as? [String: Any])
    #expect(result["path"] is NSNull)
    #expect(result["source"] as? String == "raw:-")
    #expect(result["file_bytes"] as? Int == outcome.standardOutput.count)
    #expect(!exists(bench.storePath))
  }

  @Test func zeroPagesAreHoles() throws {
    let path = try bench.write("sparse.ram", sampleRAM(2) + [UInt8](repeating: 0, count: 64 << 20))
    for (source, input) in [(path, ChildProcess.Input.null), ("-", .file(path))] {
      let target = bench.directory.file("out.elf")
      let outcome = try bench.tool.start(
        ["convert", source, "-o", target, "--format", "elf", "--force"],
        input: input
      ).wait()
      expectSuccess(outcome)
      #expect(try fileSize(target).allocated < 1 << 20)
    }
  }

  /// A VM is captured as by a save, and goes on.
  @Test func aVMThatRunsIsConvertedAndGoesOn() throws {
    let qemu = try FakeQEMU(in: bench.directory, stream: try ELFFixtures.linuxStream())
    let target = bench.directory.file("web.elf")
    let result = try bench.tool.json(
      "convert",
      "qemu:\(qemu.path)",
      "-o",
      target,
      "--format",
      "elf"
    )
    #expect(result["paused_seconds"] as? Double == 0.005)
    #expect(
      ELFModel.notes(try readFile(target, at: 0, byteCount: 16384))
        == (try ELFFixtures.linuxNotes())
    )
    #expect(qemu.commands.contains("cont"))
  }
}
