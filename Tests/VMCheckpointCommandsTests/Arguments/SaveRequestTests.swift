import Glibc
import Testing
import VMCheckpoint
import VMCheckpointCommands
import VMCheckpointFormats
import VMCheckpointProbes

@Suite struct SaveRequestTests {
  private func request(_ arguments: String...) throws -> SaveRequest {
    try CommandSession.test(["save"] + arguments).saveRequest()
  }

  @Test func defaults() throws {
    let request = try request("guest.ram")
    #expect(request.input == .file(path: "guest.ram"))
    #expect(request.layout == .contiguous)
    #expect(request.name == nil)
    #expect(request.vm == nil)
    #expect(request.parent == .newestOfSameVM)
    #expect(request.tags == [:])
    #expect(request.overlays == OverlayDocument(guestOSID: nil, records: []))
    #expect(request.deviceStates == [])
  }

  @Test func everyOption() throws {
    let directory = try WorkDirectory()
    let overlays = try directory.write(
      Array(#"{"format": 1, "guest_os_id": 5, "overlays": []}"#.utf8),
      to: "overlays.json"
    )
    let request = try request(
      "--name",
      "web/1",
      "--vm",
      "web",
      "--overlays",
      overlays,
      "--parent",
      "web/0~2",
      "--tag",
      "a=1",
      "--tag",
      "b=x=y",
      "--tag",
      "c=",
      "--qemu-machine",
      "pc",
      "--ram-size",
      "4G",
      "--threads",
      "3",
      "--no-progress",
      "--json",
      "raw:guest.ram"
    )
    #expect(request.input == .file(path: "guest.ram"))
    #expect(request.layout == .qemu(.pc, ramByteCount: 4 << 30))
    #expect(request.name == "web/1")
    #expect(request.vm == "web")
    #expect(request.parent == .snapshot(try SnapshotReference("web/0~2")))
    #expect(request.tags == ["a": "1", "b": "x=y", "c": ""])
    #expect(request.overlays == OverlayDocument(guestOSID: 5, records: []))
  }

  @Test func noParent() throws {
    #expect(try request("x", "--no-parent").parent == .none)
  }

  @Test func regions() throws {
    let request = try request(
      "x",
      "--region",
      "gpa=0,size=1M,name=low",
      "--region=gpa=4G,size=1M"
    )
    let layout = try RAMLayout(regions: [
      MemoryRegion(gpa: 0, byteCount: 1 << 20, fileOffset: 0, name: "low"),
      MemoryRegion(gpa: 4 << 30, byteCount: 1 << 20, fileOffset: 1 << 20, name: "ram1"),
    ])
    #expect(request.layout == .regions(layout))
  }

  @Test func standardInputIsAStream() throws {
    var session = CommandSession.test(["save", "-", "--qemu-machine", "q35", "--ram-size", "1G"])
    session.standardInput = 77
    let request = try session.saveRequest()
    let expected = RAMInput.stream(fileDescriptor: 77, name: "stdin") { _ in }
    #expect(request.input == expected)
    session = CommandSession.test(["save", "raw:-"])
    session.standardInput = 77
    #expect(try session.saveRequest().input == .stream(fileDescriptor: 77, name: "stdin"))
    #expect(request.layout == .qemu(.q35, ramByteCount: 1 << 30))
  }

  @Test func aTerminalIsNoRAM() throws {
    let terminal = try PseudoTerminal()
    var session = CommandSession.test(["save", "-"])
    session.standardInput = terminal.descriptor
    #expect(
      throws: VMCheckpointError(
        .invalidArgument,
        "standard input is a terminal, and SOURCE is -",
        hint: "redirect or pipe the guest's RAM, or name a file"
      )
    ) { try session.saveRequest() }
  }

  @Test(arguments: [1, 1024])
  func threads(count: Int) throws {
    let session = CommandSession.test(["save", "x", "--threads", "\(count)"])
    #expect(try session.saveThreadCount() == count)
  }

  @Test func theStoreIsTheOptionElseTheVariableElseHere() throws {
    var session = CommandSession.test(["list"])
    #expect(try session.storePath() == "./vmckpt.db")
    session.environment = ["VMCKPT_STORE": ""]
    #expect(try session.storePath() == "./vmckpt.db")
    session.environment = ["VMCKPT_STORE": "/v.db"]
    #expect(try session.storePath() == "/v.db")
    session.arguments = ["list", "--store", "o.db"]
    #expect(try session.storePath() == "o.db")
    session.arguments = ["list", "--store", ""]
    #expect(throws: VMCheckpointError.self) { try session.storePath() }
  }
}
