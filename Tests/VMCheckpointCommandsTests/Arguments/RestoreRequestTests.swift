import Testing
import VMCheckpoint
import VMCheckpointCommands
import VMCheckpointFormats
import VMCheckpointProbes

@Suite struct RestoreRequestTests {
  private func request(_ arguments: String...) throws -> RestoreRequest {
    try CommandSession.test(["restore"] + arguments).restoreRequest()
  }

  @Test func defaults() throws {
    let request = try request("latest", "-o", "out.ram")
    #expect(request.reference == (try SnapshotReference("latest")))
    #expect(request.output == .file(path: "out.ram"))
    #expect(request.overlays == .apply)
    #expect(request.overlaysOutputPath == nil)
    #expect(request.tscFrequencyHz == nil)
    #expect(!request.overwrites)
    #expect(request.cpuVendor == nil)
    #expect(request.verifiesPages == false)
  }

  @Test func everyOption() throws {
    let request = try request(
      "--output",
      "out.ram",
      "--overlays",
      "omit",
      "--overlays-out",
      "o.json",
      "--tsc-frequency",
      "2.4G",
      "--cpu-vendor",
      "amd",
      "--force",
      "--verify",
      "--format",
      "raw",
      "--threads",
      "2",
      "--no-progress",
      "--json",
      "web/1~3"
    )
    #expect(request.reference == (try SnapshotReference("web/1~3")))
    #expect(request.output == .file(path: "out.ram"))
    #expect(request.overlays == .omit)
    #expect(request.overlaysOutputPath == "o.json")
    #expect(request.tscFrequencyHz == 2_400_000_000)
    #expect(request.overwrites)
    #expect(request.cpuVendor == .amd)
    #expect(request.verifiesPages)
  }

  @Test func aPropolisSnapshotIsBareByDefault() throws {
    let request = try request("latest", "-o", "out.tar", "--format", "propolis")
    #expect(request.format == .propolis)
    #expect(request.overlays == .omit)
  }

  @Test func aDashStreams() throws {
    var session = CommandSession.test(["restore", "latest", "-o", "-"])
    session.standardOutput = 77
    #expect(try session.restoreRequest().output == .stream(fileDescriptor: 77))
  }

  @Test func aTerminalGetsNoRAM() throws {
    let terminal = try PseudoTerminal()
    var session = CommandSession.test(["restore", "latest", "-o", "-"])
    session.standardOutput = terminal.descriptor
    #expect(
      throws: VMCheckpointError(
        .invalidArgument,
        "standard output is a terminal, which RAM would garble",
        hint: "redirect it, or name a file"
      )
    ) { try session.restoreRequest() }
  }
}
