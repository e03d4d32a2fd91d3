import Testing
import VMCheckpoint
import VMCheckpointCommands
import VMCheckpointFormats
import VMCheckpointProbes

@Suite struct ConvertRequestTests {
  private func request(_ arguments: String...) throws -> ConvertRequest {
    try CommandSession.test(["convert"] + arguments).convertRequest()
  }

  @Test func defaults() throws {
    let request = try request("lime:guest.lime", "-o", "out.elf", "--format", "elf")
    #expect(request.input == .lime(path: "guest.lime"))
    #expect(request.layout == .contiguous)
    #expect(request.findsOverlays)
    #expect(request.target.output == .file(path: "out.elf"))
    #expect(request.target.format == .elf)
    #expect(request.target.overlays == .apply)
    #expect(!request.target.overwrites)
    #expect(request.otherInputPaths.isEmpty)
    #expect(request.temporaryDirectory == nil)
  }

  @Test func everyOption() throws {
    let request = try request(
      "raw:guest.ram",
      "--output",
      "out.ram",
      "--format",
      "raw",
      "--bare",
      "--overlays",
      "none",
      "--overlays-out",
      "o.json",
      "--tsc-frequency",
      "2.4G",
      "--cpu-vendor",
      "amd",
      "--force",
      "--region",
      "gpa=0,size=1M"
    )
    #expect(request.input == .file(path: "guest.ram"))
    #expect(request.layout != .contiguous)
    #expect(!request.findsOverlays)
    #expect(request.target.overlays == .omit)
    #expect(request.target.overlaysOutputPath == "o.json")
    #expect(request.target.tscFrequencyHz == 2_400_000_000)
    #expect(request.target.cpuVendor == .amd)
    #expect(request.target.overwrites)
  }

  @Test func filesBesideTheSourceAreKnown() throws {
    let request = try request(
      "firecracker:mem",
      "--base",
      "none",
      "--diff",
      "mem-1",
      "--vmstate",
      "state",
      "-o",
      "out",
      "--format",
      "firecracker"
    )
    #expect(
      request.input
        == .firecracker(path: "mem", base: .zeros, diffs: ["mem-1"], statePath: "state")
    )
    #expect(Set(request.otherInputPaths) == ["mem-1", "state"])
  }

  /// A user names the format: a wrong one is found out too late.
  @Test func theFormatMustBeNamed() throws {
    #expect(throws: (any Error).self) { try request("guest.ram", "-o", "out") }
  }
}
