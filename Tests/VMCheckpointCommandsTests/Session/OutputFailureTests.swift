import Glibc
import Testing
import VMCheckpointCommands

@Suite struct OutputFailureTests {
  @Test(arguments: [["--help"], ["list"], ["list", "--json"]])
  func aFullDiskIsAnError(arguments: [String]) throws {
    let directory = try WorkDirectory()
    _ = try ToolRun(["save", try directory.writeRAM([1], to: "ram")], in: directory)
    let run = try ToolRun(arguments, in: directory, outputPath: "/dev/full")
    let message = "cannot write the result: No space left on device"
    #expect(
      run.errors
        == (arguments.contains("--json")
          ? #"{"error":{"code":"input-output","exit_code":74,"hint":null,"message":"\#(message)"}}"#
          : "vmckpt: \(message)") + "\n"
    )
    #expect(run.status == .exit(74))
  }

  /// `vmckpt list | head -1`.
  @Test func aReaderThatWentAwayIsNoNews() async {
    await #expect(processExitsWith: .success) {
      var out: [Int32] = [0, 0]
      var err: [Int32] = [0, 0]
      pipe(&out)
      pipe(&err)
      close(out[0])
      var session = CommandSession.test(["--help"], descriptors: [-1, out[1], err[1]])
      session.handlesSignals = true
      guard CommandRunner.run(session) == .exit(74) else { exit(1) }
      close(err[1])
      var byte: UInt8 = 0
      guard read(err[0], &byte, 1) == 0 else { exit(2) }
    }
  }
}
