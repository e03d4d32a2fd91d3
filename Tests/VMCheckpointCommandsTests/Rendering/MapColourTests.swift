import Testing
import VMCheckpointCommands

@Suite struct MapColourTests {
  private func map(_ environment: [String: String]) throws -> String {
    let directory = try WorkDirectory()
    let ram = try directory.writeRAM([1, 0, 2], to: "ram")
    #expect(try ToolRun(["save", ram, "--name", "a"], in: directory).code == 0)
    let terminal = try PseudoTerminal()
    let status = CommandRunner.run(
      .test(
        ["map", "a"],
        environment: environment.merging(["VMCKPT_STORE": directory.file("store.db")]) { $1 },
        descriptors: [-1, terminal.descriptor, -1]
      )
    )
    #expect(status == .exit(0))
    return terminal.written()
  }

  @Test func aTerminalGetsColours() throws {
    #expect(
      try map(["TERM": "xterm"]).contains("0x0  \u{1B}[0;34m█\u{1B}[0;90m·\u{1B}[0;34m█\u{1B}[0m")
    )
  }

  @Test(arguments: [["NO_COLOR": "1"], ["TERM": "dumb"]])
  func colourIsLeftOutWhereItIsNotWanted(environment: [String: String]) throws {
    let text = try map(environment)
    #expect(text.contains("0x0  █·█"))
    #expect(!text.contains("\u{1B}"))
  }
}
