import FoundationEssentials
import Testing
import VMCheckpointCommands
import VMCheckpointProbes

@Suite struct SQLProgramTests {
  private let directory: WorkDirectory
  private let environment: [String: String]

  init() throws {
    directory = try WorkDirectory()
    environment = [
      "PATH": "/usr/bin:/bin", "VMCKPT_STORE": directory.file("store.db"),
      // Named, so that what lies beside the test's own program makes no difference.
      "VMCKPT_EXTENSION": try directory.write([], to: "vmckpt.so"),
    ]
    let ram = try directory.writeRAM([1], to: "ram")
    _ = try ToolRun(["save", ram, "--name", "a"], in: directory)
  }

  private func arguments(_ arguments: [String], terminal: PseudoTerminal? = nil) throws -> [String]
  {
    let descriptor = terminal?.descriptor ?? -1
    let session = CommandSession.test(
      ["sql"] + arguments,
      environment: environment,
      descriptors: [descriptor, descriptor, -1]
    )
    return try session.sqlProgram().arguments
  }

  private var common: [String] {
    [
      "-cmd", ".timeout 60000",
      "-cmd", ".load \"\(directory.file("vmckpt.so"))\" sqlite3_vmckpt_init",
    ]
  }
  private var ending: [String] {
    ["-cmd", ".parameter set :snapshot \"'a'\"", directory.file("store.db")]
  }

  /// A user's ~/.sqliterc must not change what a script gets.
  @Test func ownSettingsStayOut() throws {
    #expect(
      try arguments([])
        == ["sqlite3", "-readonly", "-init", "/dev/null", "-batch", "-bail", "-list"] + common
        + ending
    )
  }

  @Test func aTerminalGetsBoxesAndGoesOnAfterAMistake() throws {
    let terminal = try PseudoTerminal()
    let start = ["sqlite3", "-readonly", "-init", "/dev/null"]
    #expect(try arguments([], terminal: terminal) == start + ["-box"] + common + ending)
    #expect(try arguments(["--json"], terminal: terminal) == start + ["-json"] + common + ending)
    #expect(
      try arguments(["SELECT 1"], terminal: terminal)
        == start + ["-batch", "-bail", "-box"] + common + ending + ["SELECT 1"]
    )
  }

  @Test func oneArgumentIsAReferenceIfItCanBe() throws {
    #expect(try arguments(["a"]) == arguments([]))
    #expect(try arguments(["latest"]) == arguments([]))
    #expect(try arguments([".tables"]).last == ".tables")
    #expect(try arguments(["SELECT 1"]).last == "SELECT 1")
    #expect(try arguments(["a", "VACUUM"]).last == "VACUUM")
  }
}
