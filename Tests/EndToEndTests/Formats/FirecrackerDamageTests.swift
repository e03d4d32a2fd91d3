import Glibc
import Testing
import VMCheckpointTestSupport

/// A snapshot of Firecracker that is damaged or hostile is refused in one line that says what and where, and
/// leaves no store behind.
@Suite struct FirecrackerDamageTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var message: String
    var state: @Sendable () -> [UInt8]

    init(_ name: String, _ message: String, _ state: @escaping @Sendable () -> [UInt8]) {
      testDescription = name
      self.message = message
      self.state = state
    }

    /// Other values in a vmstate whose checksum is right.
    static func changed(
      _ name: String,
      _ message: String,
      _ major: Int = 8,
      _ change: @escaping @Sendable (inout FirecrackerBuilder) -> Void
    ) -> Case {
      Case(name, message) {
        var state = sample(major)
        change(&state)
        return state.bytes
      }
    }

    /// The first bytes, with a checksum of their own.
    static func cut(_ name: String, _ message: String, at byteCount: Int) -> Case {
      Case(name, "is cut short in \(message), at offset 0x\(String(byteCount, radix: 16))") {
        FirecrackerBuilder.sealed(Array(sample(8).body[..<byteCount]))
      }
    }
  }

  static func sample(_ major: Int = 8) -> FirecrackerBuilder {
    FirecrackerBuilder(major, [.init(0, 1 << 20), .init(4 << 30, 1 << 20)])
  }

  private static let head = sample(8).head.count
  private static let whole = 2 << 20
  private static let region = "a memory region at GPA"

  static let cases: [Case] = [
    Case(
      "a wrong checksum",
      "is damaged: its checksum is not right; copy it again, and save when Firecracker has answered"
    ) {
      var bytes = sample().bytes
      bytes[100] ^= 1
      return bytes
    },
    Case(
      "cut at its end",
      "is damaged: its checksum is not right; copy it again, and save when Firecracker has answered"
    ) { sample().bytes.dropLast() },
    Case("something else", "is not a vmstate of Firecracker: its checksum is not right") {
      Array("just a text, and not of Firecracker".utf8)
    },
    Case("nothing", "is not a vmstate of Firecracker: its checksum is not right") { [] },
    Case("zeros", "is not a vmstate of Firecracker: its checksum is not right") {
      [UInt8](repeating: 0, count: 4096)
    },
    Case(
      "larger than Firecracker reads",
      "has 10000001 bytes, and at most 10000000 make sense"
    ) { [UInt8](repeating: 1, count: 10_000_001) },
    .cut("cut before its version", "its version", at: 8),
    Case(
      "cut in its version",
      "is damaged at offset 0x10: its version has 5 elements, which end behind the file"
    ) {
      FirecrackerBuilder.sealed(Array(sample().body[..<18]))
    },
    .cut("cut before its memory's size", "its memory's size", at: 21),
    .cut("cut before smt", "smt", at: 29),
    .cut("cut before its CPU template", "its CPU template", at: 30),
    .cut("cut before its kernel's path", "its kernel's path", at: 34),
    .cut("cut before its initrd", "its initrd's path", at: 54),
    .cut("cut before its arguments", "its kernel's arguments", at: 55),
    .cut("cut before the size of its pages", "the size of its pages", at: head - 24),
    .cut("cut before its capabilities", "its KVM capabilities", at: head - 20),
    .cut("cut before its regions", "its memory regions", at: head),
    Case(
      "cut in its regions",
      "is damaged at offset 0x\(String(head + 8, radix: 16)): its memory regions has 2 elements, which end behind the file"
    ) {
      FirecrackerBuilder.sealed(Array(sample().body[..<(head + 30)]))
    },
    .changed(
      "a version before 2",
      "has version 1.0.0 of the format, which is unknown; versions 2 to 8 are read, and those that later Firecrackers encode by bitcode"
    ) {
      $0.version = "1.0.0"
    },
    .changed(
      "a version after 8",
      "has version 9.0.0 of the format, which is unknown; versions 2 to 8 are read, and those that later Firecrackers encode by bitcode"
    ) {
      $0.version = "9.0.0"
    },
    .changed("a version of two numbers", "is damaged: \"8.0\" is not a version") {
      $0.version = "8.0"
    },
    .changed(
      "a version of 64 bits and one",
      "is damaged: \"18446744073709551616.0.0\" is not a version"
    ) {
      $0.version = "18446744073709551616.0.0"
    },
    .changed("no regions", "has 0 memory regions, and 1 to 1024 can be stored") { $0.regions = [] },
    .changed(
      "regions of 64 bits",
      "is damaged at offset 0x\(String(head + 8, radix: 16)): its memory regions has 18446744073709551615 elements, which end behind the file"
    ) {
      $0.regionCount = .max
    },
    .changed(
      "a region whose end overflows",
      "is damaged: \(region) 0xfffffffffffff000 of 0x100000 bytes ends beyond 52-bit physical addresses"
    ) { $0.regions[1].gpa = .max - 4095 },
    .changed(
      "a region of 64 bits",
      "is damaged: \(region) 0x100000000 of 0xfffffffffffff000 bytes ends beyond 52-bit physical addresses"
    ) { $0.regions[1].size = .max - 4095 },
    .changed(
      "a region that begins in a page",
      "is damaged: \(region) 0x100000001 of 0x100000 bytes in 1 slots is not made of whole pages"
    ) { $0.regions[1].gpa += 1 },
    .changed(
      "an empty region",
      "is damaged: \(region) 0x100000000 of 0x0 bytes in 1 slots is not made of whole pages",
      7
    ) { $0.regions[1].size = 0 },
    .changed(
      "regions that overlap",
      "is damaged: memory regions overlap: gpa=0x0,size=0x100000 and gpa=0x80000,size=0x100000 both hold GPA "
        + "0x80000"
    ) { $0.regions[1].gpa = 0x80000 },
    .changed(
      "offsets that overlap",
      "is damaged: memory regions overlap in the RAM file: gpa=0x0,size=0x100000 and "
        + "gpa=0x100000000,size=0x100000 both hold file offset 0x1000",
      4
    ) { $0.regions[1].offset = 4096 },
    .changed(
      "an offset at the end of 64 bits",
      "is damaged: \(region) 0x100000000 of 0x100000 bytes is at offset 0xfffffffffffff000 of a memory file of "
        + "2097152 bytes",
      3
    ) { $0.regions[1].offset = .max - 4095 },
    .changed(
      "a size that its regions do not have",
      "is damaged: it says that memory is 3 MiB, and its regions have 2097152 bytes"
    ) { $0.mebibytes = 3 },
    .changed(
      "a size of 64 bits",
      "is damaged: it says that memory is 18446744073709551615 MiB, and its regions have 2097152 bytes"
    ) { $0.mebibytes = .max },
    .changed(
      "regions that the memory file does not have",
      "describes 3145728 bytes of memory, and the memory file has 2097152; give the memory file that was "
        + "written with it"
    ) {
      $0.regions[1].size = 2 << 20
      $0.mebibytes = 3
    },
    .changed(
      "a region without slots",
      "is damaged: \(region) 0x0 of 0x100000 bytes in 0 slots is not made of whole pages"
    ) {
      $0.hasSlots = true
      for index in 0...1 { $0.regions[index].plugged = [] }
    },
  ]

  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private static let ram = incompressibleRAM(512)

  private func memory(_ name: String = "mem", _ bytes: [UInt8] = ram) throws -> String {
    let path = bench.directory.file(name)
    try writeFile(path, bytes)
    return path
  }

  @Test(arguments: cases)
  func aDamagedVMStateIsRefusedAndNothingIsStored(damage: Case) throws {
    let memory = try memory()
    let state = bench.directory.file("vmstate")
    try writeFile(state, damage.state())
    let before = bench.directory.entries
    expectFailure(
      try bench.tool.run("save", "firecracker:\(memory)", "--vmstate", state),
      65,
      "Firecracker vmstate file \"\(state)\" \(damage.message)"
    )
    #expect(bench.directory.entries == before)
  }

  /// The writer of the tests computes it bit by bit.
  @Test func theChecksumIsThatOfJones() {
    #expect(FirecrackerBuilder.checksum(Array("123456789".utf8)) == 0xe9c6_d914_c4b8_d9ca)
  }

  /// Whatever a byte becomes, the checksum is right, and the command ends in order.
  @Test func anyByteMayBeWrong() throws {
    let memory = try memory()
    let state = bench.directory.file("vmstate")
    let body = Self.sample().body
    for offset in stride(from: 0, to: Self.head + 60, by: 5) {
      for value in [UInt8(0xff), 0x80] {
        var damaged = body
        damaged[offset] ^= value
        try writeFile(state, FirecrackerBuilder.sealed(damaged))
        let outcome = try bench.tool.run(
          "save",
          "firecracker:\(memory)",
          "--vmstate",
          state
        )
        #expect(outcome.endedOrderly, "byte \(offset): \(outcome)")
      }
    }
  }

  @Test func aDiffWithoutItsBaseIsRefused() throws {
    let directory = bench.directory.file("diff")
    try #require(mkdir(directory, 0o700) == 0)
    let memory = "\(directory)/mem"
    let page = incompressibleRAM(1)
    try writeMemoryFile(memory, byteCount: 512 << 12, pages: [0: page, 1: page, 300: page])
    try writeFile("\(directory)/vmstate", Self.sample().bytes)
    expectFailure(
      try bench.tool.run("save", directory),
      65,
      "Firecracker memory file \"\(memory)\" has a hole at GPA 0x2000, as a diff has; name the snapshot that "
        + "it is based on with --base; --base none, if its holes are zeros"
    )
    let missing = try bench.tool.run("save", directory, "--base", "nothing")
    #expect(missing.ending == .exit(66), "\(missing)")
    #expect(bench.directory.entries == ["diff"])
  }

  @Test func aBaseOfAnotherVMIsRefused() throws {
    let memory = try memory()
    let state = bench.directory.file("vmstate")
    try writeFile(state, Self.sample(7).bytes)
    try bench.save("small", sampleRAM(16))
    expectSuccess(
      try bench.tool.run("save", "firecracker:\(memory)", "--vmstate", state, "--name", "seven")
    )
    let directory = bench.directory.file("diff")
    try #require(mkdir(directory, 0o700) == 0)
    try makeHole("\(directory)/mem", byteCount: 512 << 12)
    try writeFile("\(directory)/vmstate", Self.sample().bytes)
    let name = "Firecracker snapshot \"\(directory)\""
    expectFailure(
      try bench.tool.run("save", directory, "--base", "seven"),
      65,
      "\(name) has version 8 for x86-64, and snapshot \"seven\" has version 7 for x86-64; a diff goes with a "
        + "base of the same VM and Firecracker"
    )
    expectFailure(
      try bench.tool.run("save", directory, "--base", "small"),
      65,
      "\(name) describes RAM at other addresses than snapshot \"small\"; a diff goes with a base of the same "
        + "VM and Firecracker"
    )
    #expect(try bench.tool.snapshotNames() == ["small", "seven"])
  }

  @Test func diffsThatDoNotGoTogetherAreRefused() throws {
    func directory(_ name: String, _ state: FirecrackerBuilder, pageCount: Int = 512) throws
      -> String
    {
      let path = bench.directory.file(name)
      try #require(mkdir(path, 0o700) == 0)
      try writeFile("\(path)/mem", incompressibleRAM(pageCount))
      try writeFile("\(path)/vmstate", state.bytes)
      return path
    }
    let full = try directory("full", Self.sample())
    let seven = try directory("seven", Self.sample(7))
    let small = try directory("small", Self.sample(), pageCount: 256)
    let moved = try directory(
      "moved",
      FirecrackerBuilder(8, [.init(0, 1 << 20), .init(5 << 30, 1 << 20)])
    )
    let before = bench.directory.entries
    let hint = "a diff goes with a base of the same VM and Firecracker"
    func expectRefusal(_ diff: String, _ message: String) throws {
      expectFailure(try bench.tool.run("save", full, "--diff", diff), 65, message)
    }
    let first = "Firecracker vmstate file \"\(full)/vmstate\""
    try expectRefusal(
      seven,
      "Firecracker vmstate file \"\(seven)/vmstate\" has version 7 for x86-64, and \(first) has version 8 for "
        + "x86-64; \(hint)"
    )
    try expectRefusal(
      small,
      "Firecracker memory file \"\(small)/mem\" has 1048576 bytes, and \"\(full)/mem\" has 2097152; diffs of "
        + "one VM have the size of its memory"
    )
    try expectRefusal(
      moved,
      "Firecracker vmstate file \"\(moved)/vmstate\" describes RAM at other addresses than \(first); \(hint)"
    )
    #expect(bench.directory.entries == before)
  }

  @Test func whatIsNotASnapshotIsRefused() throws {
    let state = bench.directory.file("vmstate")
    try writeFile(state, Self.sample().bytes)
    expectFailure(
      try bench.tool.run("save", state),
      65,
      "\"\(state)\" is a vmstate file of Firecracker, and holds no RAM; give the memory file that was written "
        + "with it, or their directory"
    )
    let memory = try memory("odd", [UInt8](repeating: 1, count: 4097))
    expectFailure(
      try bench.tool.run("save", "firecracker:\(memory)"),
      65,
      "Firecracker vmstate file \"\(state)\" belongs to a memory file of 4097 bytes, which is not a multiple of "
        + "4096"
    )
    unlink(state)
    expectFailure(
      try bench.tool.run("save", "firecracker:\(memory)"),
      65,
      "directory \"\(bench.directory.path)\" has no vmstate file of Firecracker; name the one that was written "
        + "with the memory file with --vmstate"
    )
    let empty = bench.directory.file("empty")
    try #require(mkdir(empty, 0o700) == 0)
    try writeFile("\(empty)/vmstate", Self.sample().bytes)
    expectFailure(
      try bench.tool.run("save", "firecracker:\(empty)"),
      65,
      "directory \"\(empty)\" has no memory file of Firecracker; give the memory file by its path"
    )
    let missing = try bench.tool.run("save", "firecracker:\(bench.directory.file("nothing"))")
    #expect(missing.ending == .exit(66), "\(missing)")
  }

  @Test func theCommandLineRefusesWhatMakesNoSense() throws {
    try bench.save("raw", sampleRAM(4))
    let out = bench.directory.file("out")
    expectFailure(
      try bench.tool.run("restore", "raw", "--format", "firecracker", "-o", out),
      64,
      "snapshot \"raw\" has no state of Firecracker, and cannot become a snapshot of it; its RAM alone is "
        + "written by: --format raw"
    )
    expectFailure(
      try bench.tool.run("save", "firecracker:-"),
      64,
      "a Firecracker snapshot cannot be read from standard input; give its directory, or its memory file: "
        + "which pages it has, its holes show"
    )
  }
}
