import Testing
import VMCheckpointTestSupport

/// Device states that a user attaches, and takes out again.
@Suite struct DeviceStateTests {
  private let bench: Workbench
  private let state: [UInt8]
  private let source: String

  init() throws {
    bench = try Workbench()
    state = incompressibleRAM(3, seed: 4) + [1, 2, 3]
    source = try bench.write("a.ram", sampleRAM(20))
  }

  @Test("what was attached comes back byte for byte, from each door")
  func roundTrip() throws {
    let file = try bench.write("vm,1.state", state)
    let empty = try bench.write("empty", [])
    try bench.tool.succeed(
      "save",
      source,
      "--name",
      "s",
      "--device-state",
      "vmm/one=\(file),format=my-vmm,version=7",
      "--device-state",
      "two=\(empty)"
    )
    let shown = try bench.tool.json("show", "s")
    let states = try #require(shown["device_states"] as? [[String: Any]])
    #expect(states.map { $0["name"] as? String } == ["vmm/one", "two"])
    #expect(states.map { $0["format"] as? String } == ["my-vmm", "opaque"])
    #expect(states.map { $0["version"] as? Int } == [7, 0])

    let output = bench.directory.file("out")
    let written = try bench.tool.json("device-state", "s", "vmm/one", "-o", output)
    #expect(written["bytes"] as? Int == state.count && written["format"] as? String == "my-vmm")
    #expect(try readFile(output) == state)
    #expect(try bench.tool.run("device-state", "s", "vmm/one", "-o", "-").standardOutput == state)

    let directory = bench.directory.file("states")
    let restored = try bench.tool.json(
      "restore",
      "s",
      "-o",
      bench.directory.file("r"),
      "--device-states",
      directory
    )
    #expect(restored["written_device_states"] as? Int == 2)
    #expect(try readFile("\(directory)/vmm%2Fone") == state)
    #expect(try readFile("\(directory)/two").isEmpty)
    #expect(try fileMode("\(directory)/vmm%2Fone") & 0o777 == 0o600)
    #expect(try fileMode(directory) & 0o777 == 0o700)
  }

  @Test("a file that exists is not replaced, and then there is no RAM either")
  func nothingIsReplaced() throws {
    let file = try bench.write("one.state", state)
    try bench.tool.succeed("save", source, "--name", "s", "--device-state", "one=\(file)")
    let before = bench.directory.entries.sorted()
    #expect(try bench.tool.run("device-state", "s", "one", "-o", file).ending == .exit(73))
    let directory = bench.directory.file("states")
    try bench.tool.succeed(
      "restore",
      "s",
      "-o",
      bench.directory.file("r"),
      "--device-states",
      directory
    )
    let again = try bench.tool.run(
      "restore",
      "s",
      "-o",
      bench.directory.file("r2"),
      "--device-states",
      directory
    )
    #expect(again.ending == .exit(73), "\(again)")
    #expect(bench.directory.entries.sorted() == (before + ["r", "states"]).sorted())
    #expect(
      try bench.tool.run(
        "restore",
        "s",
        "-o",
        bench.directory.file("r"),
        "--device-states",
        directory,
        "--force"
      ).succeeded
    )
    #expect(try readFile("\(directory)/one") == state)
  }

  @Test(
    "an attachment that makes no sense stores nothing",
    arguments: [
      ("one", 64), ("one=", 64), ("=FILE", 64), ("a b=FILE", 64), ("one=FILE,version=x", 64),
      ("one=FILE,format=", 64), ("one=FILE,format=a,format=b", 64), ("one=FILE,nope=1", 66),
      ("one=/nowhere", 66),
    ] as [(String, Int32)]
  )
  func refused(argument: String, code: Int32) throws {
    let file = try bench.write("one.state", state)
    let text = argument.replacing("FILE", with: file)
    let outcome = try bench.tool.run("save", source, "--device-state", text)
    #expect(outcome.ending == .exit(code), "\(outcome)")
    #expect(!bench.directory.entries.contains("store.db"))
  }

  @Test("two attachments of one name, and a name that there is not, are refused")
  func names() throws {
    let file = try bench.write("one.state", state)
    let twice = try bench.tool.run(
      "save",
      source,
      "--device-state",
      "one=\(file)",
      "--device-state",
      "one=\(file)"
    )
    #expect(twice.ending == .exit(64), "\(twice)")
    try bench.tool.succeed("save", source, "--name", "s")
    let missing = try bench.tool.run("device-state", "s", "one", "-o", "-")
    #expect(missing.ending == .exit(66) && missing.standardOutput.isEmpty, "\(missing)")
  }
}
