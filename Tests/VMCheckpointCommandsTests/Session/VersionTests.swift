import Testing
import VMCheckpoint
import VMCheckpointCommands

@Suite struct VersionTests {
  @Test(arguments: [["--version"], ["list", "--version"]])
  func theRootAndEveryCommandTell(arguments: [String]) throws {
    let run = try ToolRun(arguments, in: try WorkDirectory())
    #expect(run.output == "vmckpt \(VMCheckpointVersion.current)\n")
    #expect(run.status == .exit(0))
  }
}
