import Testing
import VMCheckpointTestSupport

/// Saves that do what was asked, where that may not be what was meant.
@Suite struct SaveCautionTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private func warnings(_ arguments: String..., input: String? = nil) throws -> [String] {
    let outcome = try bench.tool.start(
      ["save", "--json"] + arguments,
      input: input.map { .file($0) } ?? .null
    ).wait()
    try #require(outcome.succeeded, "\(outcome)")
    return try outcome.jsonObject()["warnings"] as? [String] ?? []
  }

  @Test("a pipe that was cut short is not a smaller guest")
  func ramSizeOfAPipe() throws {
    let ram = sampleRAM(64)
    let (whole, cut) = try (
      bench.write("whole", ram), bench.write("cut", Array(ram[..<(32 * 4096)]))
    )
    let refused = try bench.tool.run("save", "-", "--ram-size", "256K", input: .file(cut))
    #expect(refused.ending == .exit(74), "\(refused)")
    #expect(try bench.tool.snapshotNames().isEmpty)
    #expect(try warnings("-", "--ram-size", "256K", "--vm", "a", input: whole).isEmpty)
    let warning = try #require(try warnings("-", "--vm", "a", input: cut).first)
    #expect(warning.contains("RAM has 131072 bytes") && warning.contains("262144"), "\(warning)")
    let both = try bench.tool.run("save", cut, "--ram-size", "128K", "--region", "gpa=0,size=128K")
    #expect(both.ending == .exit(64), "\(both)")
  }

  @Test("two guests of one file name do not become one VM without a word")
  func anotherGuestOfTheSameName() throws {
    let ram = incompressibleRAM(1500)
    let path = try bench.write("memory-ranges", ram)
    #expect(try warnings(path).isEmpty)
    var next = ram
    next.replaceSubrange(0..<4096, with: incompressibleRAM(1, seed: 5))
    _ = try bench.write("memory-ranges", next)
    #expect(try warnings(path).isEmpty, "the same guest, later")
    _ = try bench.write("memory-ranges", incompressibleRAM(1500, seed: 7))
    let said = try warnings(path)
    #expect(said.count == 1 && said[0].contains("shares hardly a page with its parent"), "\(said)")
    // Who names the VM knows it.
    _ = try bench.write("memory-ranges", incompressibleRAM(1500, seed: 8))
    #expect(try warnings(path, "--vm", "memory-ranges").isEmpty)
  }

  @Test("a sparse file whose holes mean the same as before does not zero a guest without a word")
  func aDiffThatIsNotSavedAsOne() throws {
    let ram = incompressibleRAM(1500)
    try bench.save("base", ram, "--vm", "v")
    var diff = [UInt8](repeating: 0, count: ram.count)
    diff.replaceSubrange(0..<4096, with: incompressibleRAM(1, seed: 5))
    let said = try warnings(try bench.write("diff", diff), "--vm", "v")
    #expect(said.count == 1 && said[0].contains("it is a diff"), "\(said)")
  }

  @Test("RAM above the hole below 4 GiB gets wrong addresses, and that is said")
  func ramAboveTheHole() throws {
    let path = bench.directory.file("large.ram")
    try makeHole(path, byteCount: 4 << 30)
    let said = try warnings(path)
    #expect(said.count == 1 && said[0].contains("describe the regions"), "\(said)")
    #expect(try warnings(path, "--qemu-machine", "q35").isEmpty)
  }

  @Test("a name that begins with a dash is not taken for -h")
  func dashes() throws {
    let path = try bench.write("-dash.ram", sampleRAM(4))
    let outcome = try bench.tool.run("save", "-dash.ram")
    #expect(outcome.ending == .exit(64) && outcome.standardOutput.isEmpty, "\(outcome)")
    #expect(outcome.standardError.contains("unknown option '-dash.ram'"), "\(outcome)")
    let after = try ChildProcess(
      ["/bin/sh", "-c", "cd \"$1\" && exec \"$2\" save --store s.db -- -dash.ram", "sh"]
        + [bench.directory.path, VMCkptTool.path()]
    ).wait()
    #expect(after.succeeded, "\(after) \(path)")
    #expect(try bench.tool.run("save", "-h").succeeded, "help is help")
  }
}
