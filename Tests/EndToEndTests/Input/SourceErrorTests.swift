import Glibc
import Testing
import VMCheckpointTestSupport

/// RAM that cannot be saved is refused in one line, and leaves nothing behind.
@Suite struct SourceErrorTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private func expectRefused(
    _ source: String,
    _ options: String...,
    code: Int32,
    _ message: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let before = bench.directory.entries
    let outcome = try bench.tool.start(["save", source] + options).wait()
    expectFailure(outcome, code, message, sourceLocation: sourceLocation)
    // Not even an empty store.
    #expect(bench.directory.entries == before, sourceLocation: sourceLocation)
  }

  @Test(arguments: [1, 4095, 4097, 5000])
  func anUnalignedFileIsRefused(byteCount: Int) throws {
    let path = bench.directory.file("a.ram")
    try writeFile(path, [UInt8](repeating: 7, count: byteCount))
    try expectRefused(
      path,
      code: 65,
      "RAM file \"\(path)\" has \(byteCount) bytes, which is not a multiple of 4096; "
        + "give a raw image of RAM, complete to its last page"
    )
  }

  @Test func anEmptyFileIsRefused() throws {
    let path = bench.directory.file("a.ram")
    try writeFile(path, "")
    try expectRefused(path, code: 65, "RAM file \"\(path)\" is empty")
  }

  @Test func aMissingFileIsRefused() throws {
    let path = bench.directory.file("a.ram")
    try expectRefused(path, code: 66, "there is no RAM file \"\(path)\"")
  }

  @Test func aDirectoryIsRefused() throws {
    let path = bench.directory.path
    try expectRefused(
      path,
      code: 65,
      "SOURCE \"\(path)\" is a directory, and not a snapshot of a VMM; "
        + "give a file in it, or name its format, as in firecracker:\(path)"
    )
  }

  @Test func aPipeByNameIsRefusedAndNotWaitedFor() throws {
    let path = bench.directory.file("pipe")
    mkfifo(path, 0o600)
    try expectRefused(
      path,
      code: 65,
      "RAM file \"\(path)\" is neither a file nor a block device; "
        + "to save what a pipe holds, redirect it and give - as the source"
    )
  }

  @Test func regionsThatOverlapAreRefused() throws {
    let path = try bench.write("a.ram", sampleRAM(32))
    try expectRefused(
      path,
      "--region",
      "gpa=0,size=64K",
      "--region",
      "gpa=0x8000,size=64K",
      code: 64,
      "--region: memory regions overlap: gpa=0x0,size=0x10000 and gpa=0x8000,size=0x10000 "
        + "both hold GPA 0x8000"
    )
    try expectRefused(
      path,
      "--region",
      "gpa=0,size=64K,offset=0",
      "--region",
      "gpa=1M,size=64K,offset=32K",
      code: 64,
      "--region: memory regions overlap in the RAM file: gpa=0x0,size=0x10000 and "
        + "gpa=0x100000,size=0x10000 both hold file offset 0x8000"
    )
  }

  @Test func regionsThatDoNotFitTheFileAreRefused() throws {
    let path = try bench.write("a.ram", sampleRAM(32))
    try expectRefused(
      path,
      "--region",
      "gpa=0,size=256K",
      code: 65,
      "RAM file \"\(path)\" has 131072 bytes, and the memory regions end at offset 262144; "
        + "the regions together must describe the whole file"
    )
  }

  @Test func dataThatNoRegionDescribesIsNotDroppedSilently() throws {
    let ram = sampleRAM(32)
    let path = try bench.write("a.ram", ram)
    let first = try #require(ram.prefix(64 << 10).firstIndex { $0 != 0 })
    try expectRefused(
      path,
      "--region",
      "gpa=0,size=64K,offset=64K",
      code: 65,
      "RAM file \"\(path)\" has data at offset 0x\(String(first, radix: 16)), which no memory "
        + "region describes; give a --region for it: what is in no region is not saved"
    )
    // A file whose offsets are addresses has a hole where the guest's RAM has one.
    let holed = ram.replacingPages(16..<32, withZerosTo: 64)
    let source = try bench.write("holed.ram", holed)
    try bench.tool.succeed(
      "save",
      source,
      "--name",
      "holed",
      "--region",
      "gpa=0,size=64K,offset=0",
      "--region",
      "gpa=4G,size=64K,offset=192K"
    )
    #expect(try bench.restore("holed") == holed)
  }

  @Test func namesInOtherScriptsDoNotMakeTwoGuestsOneVM() throws {
    for name in ["日本.ram", "中国.ram", "a b.ram"] {
      try bench.tool.succeed("save", bench.write(name, sampleRAM(4)))
    }
    #expect(try bench.sql.integer("SELECT count(DISTINCT vm) FROM snapshot") == 3)
    #expect(try bench.sql.integer("SELECT count(*) FROM snapshot WHERE parent_id > 0") == 0)
  }

  @Test func aPathThatIsNotUTF8IsRefusedAndNoOtherFileUsed() throws {
    let script = #"exec "$0" save $'x\xff.ram' --json --store "$1""#
    let outcome = try run(["/bin/bash", "-c", script, VMCkptTool.path(), bench.storePath])
    #expect(outcome.ending == .exit(64), "\(outcome)")
    #expect(outcome.standardError.contains("argument 2 is not UTF-8"), "\(outcome)")
    let variable = #"VMCKPT_STORE=$'bad\xff.db' exec "$0" list"#
    let second = try run(["/bin/bash", "-c", variable, VMCkptTool.path()])
    #expect(second.ending == .exit(64), "\(second)")
    #expect(second.standardError.contains("VMCKPT_STORE is not UTF-8"), "\(second)")
  }

  @Test(arguments: [1, 5000, 4096 * 300 + 17])
  func aStreamThatEndsInMidPageIsRefused(byteCount: Int) throws {
    let path = bench.directory.file("a.ram")
    try writeFile(path, Array(sampleRAM(400).prefix(byteCount)))
    try bench.save("first", sampleRAM(3))
    expectFailure(
      try bench.tool.run("save", "-", input: .file(path)),
      65,
      "RAM stream \"stdin\" ended after \(byteCount) bytes, which is not a multiple of 4096"
    )
    try expectSound(bench, [("first", sampleRAM(3))], "after a stream ended early")
  }

  @Test func aStreamThatIsEmptyIsRefused() throws {
    expectFailure(try bench.tool.run("save", "-"), 65, "RAM stream \"stdin\" is empty")
    #expect(try bench.tool.snapshotNames().isEmpty)
  }

  @Test func aStreamThatDoesNotFitItsRegionsIsRefused() throws {
    let path = try bench.write("a.ram", sampleRAM(32))
    try bench.save("first", sampleRAM(3))
    expectFailure(
      try bench.tool.run("save", "-", "--region", "gpa=0,size=256K", input: .file(path)),
      74,
      "RAM stream \"stdin\" ended after 131072 bytes, and the memory regions hold 262144"
    )
    expectFailure(
      try bench.tool.run("save", "-", "--region", "gpa=0,size=64K", input: .file(path)),
      65,
      "RAM stream \"stdin\" is longer than the memory regions"
    )
    try expectSound(bench, [("first", sampleRAM(3))], "after streams of the wrong length")
  }

  /// The file is cut while it is being saved, at whatever moment chance gives; the next test knows
  /// the moment.
  @Test(.slow) func aFileThatShrinksWhileItIsSavedGivesNoSnapshot() throws {
    try bench.save("first", sampleRAM(3))
    let path = bench.directory.file("a.ram")
    var hits = 0
    for attempt in 0..<40 where hits < 3 {
      try writeFile(path, sampleRAM(6000, seed: UInt64(attempt)))
      let child = try bench.tool.start(["save", path, "--name", "shrunk", "--threads", "1"])
      // The later attempts wait longer, until the file has been opened before it is cut.
      usleep(UInt32(2000 + attempt * 2000))
      truncate(path, 4096 * 5000)
      let outcome = try child.wait()
      let complaint =
        "vmckpt: RAM file \"\(path)\" shrank while it was being saved; "
        + "pause the VM, or save a copy of the file\n"
      if outcome.ending == .exit(74), outcome.standardError == complaint {
        hits += 1
      } else {
        // Cut before it was opened, or after it was read.
        #expect(outcome.succeeded, "\(outcome)")
        try bench.tool.succeed("delete", "shrunk")
      }
      #expect(try bench.tool.snapshotNames() == ["first"])
    }
    try expectSound(bench, [("first", sampleRAM(3))], "after the source shrank")
  }

  /// The same, at the same moment each time: the file shrinks while the save waits for the store.
  @Test func aFileThatShrinksBeforeItIsReadGivesNoSnapshot() throws {
    try bench.save("first", sampleRAM(3))
    let path = try bench.write("a.ram", sampleRAM(500))
    // A save from a pipe that nobody writes to holds the writer's lock.
    let pipe = try ChildPipe()
    let holder = try bench.tool.start(
      ["save", "-", "--name", "x"],
      input: .descriptor(pipe.reader)
    )
    try pipe.write(sampleRAM(300, seed: 9))
    try waitUntil("the first save has begun") {
      try bench.sql.integer("SELECT count(*) FROM snapshot WHERE state = 'writing'") == 1
    }
    let child = try bench.tool.start(["save", path, "--name", "shrunk"])
    // It has opened its source by then, and has not read it.
    try child.waitUntilItWaits(for: .lock(bench.storePath + "-lock"))
    #expect(hasOpen(path, child.identifier))
    truncate(path, 4096)
    pipe.closeWriter()
    expectSuccessIgnoringOutput(try holder.wait())
    expectFailure(
      try child.wait(),
      74,
      "RAM file \"\(path)\" shrank while it was being saved; "
        + "pause the VM, or save a copy of the file"
    )
    try expectSound(
      bench,
      [("first", sampleRAM(3)), ("x", sampleRAM(300, seed: 9))],
      "after the source shrank"
    )
  }

  private func hasOpen(_ path: String, _ process: pid_t) -> Bool {
    (0..<64).contains { number in
      var target = [UInt8](repeating: 0, count: 4096)
      let count = target.withUnsafeMutableBytes { bytes in
        readlink(
          "/proc/\(process)/fd/\(number)",
          bytes.baseAddress!.assumingMemoryBound(to: CChar.self),
          bytes.count
        )
      }
      return count > 0 && String(decoding: target[..<count], as: UTF8.self) == path
    }
  }

  private func expectSuccessIgnoringOutput(_ outcome: ProcessOutcome) {
    #expect(outcome.succeeded, "\(outcome)")
  }

  /// `verify` called the store damaged for good.
  @Test func aNameWithAControlCharacterIsEscapedInTheStore() throws {
    let bench = try Workbench()
    let source = try bench.write("new\nline\u{1b}.ram", sampleRAM(4))
    try bench.tool.succeed("save", source, "--name", "a")
    expectSuccess(try bench.tool.verify())
    #expect(try bench.sql.run("SELECT source FROM snapshot").hasSuffix(#"new\u{a}line\u{1b}.ram"#))
  }
}

extension [UInt8] {
  /// The pages before `pages`, then zeros up to page `endPage - 16`, then `pages`.
  fileprivate func replacingPages(_ pages: Range<Int>, withZerosTo endPage: Int) -> [UInt8] {
    let head = self[..<(pages.lowerBound * 4096)]
    let tail = self[(pages.lowerBound * 4096)..<(pages.upperBound * 4096)]
    let zeros = (endPage - pages.count) * 4096 - head.count
    return head + [UInt8](repeating: 0, count: zeros) + tail
  }
}
