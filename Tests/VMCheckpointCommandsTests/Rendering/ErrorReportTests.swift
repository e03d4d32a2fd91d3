import Glibc
import Testing
import VMCheckpoint
import VMCheckpointCommands

@Suite struct ErrorReportTests {
  @Test(
    arguments: [
      (VMCheckpointError.Code.invalidArgument, "invalid-argument", 64),
      (.invalidData, "invalid-data", 65),
      (.corrupt, "corrupt", 65),
      (.notFound, "not-found", 66),
      (.unavailable, "unavailable", 69),
      (.outOfResources, "out-of-resources", 71),
      (.cannotCreate, "cannot-create", 73),
      (.inputOutput, "input-output", 74),
      (.locked, "locked", 75),
      (.permissionDenied, "permission-denied", 77),
      (.cancelled, "cancelled", 130),
    ] as [(VMCheckpointError.Code, String, Int32)]
  )
  func codes(code: VMCheckpointError.Code, name: String, exitCode: Int32) {
    let report = ErrorReport(VMCheckpointError(code, "m"))
    #expect(report.status == .exit(exitCode))
    #expect(
      report.json
        == #"{"error":{"code":"\#(name)","exit_code":\#(exitCode),"hint":null,"message":"m"}}"#
        + "\n"
    )
  }

  @Test func aHintFollowsOnTheSameLine() {
    let report = ErrorReport(VMCheckpointError(.notFound, "no such thing", hint: "look there"))
    #expect(report.line == "vmckpt: no such thing; look there\n")
    #expect(ErrorReport(VMCheckpointError(.notFound, "gone")).line == "vmckpt: gone\n")
  }

  @Test func hostileTextStaysOnOneLine() {
    let error = VMCheckpointError(
      .corrupt,
      "snapshot \"\u{1B}]0;title\u{7}\"\nvmckpt: all is well",
      hint: "\u{202E}olleh \\ \"\r\u{0}"
    )
    let report = ErrorReport(error)
    #expect(
      report.line == #"""
        vmckpt: snapshot "\u{1B}]0;title\u{07}"\nvmckpt: all is well; \u{202E}olleh \ "\r\0

        """#
    )
    #expect(
      report.json == #"""
        {"error":{"code":"corrupt","exit_code":65,"hint":"\#u{202E}olleh \\ \"\r\u0000",\#
        "message":"snapshot \"\u001b]0;title\u0007\"\nvmckpt: all is well"}}

        """#
    )
  }

  @Test(arguments: [(SIGINT, 130), (SIGTERM, 143), (SIGHUP, 129)] as [(Int32, Int32)])
  func interruptedBy(signal: Int32, shellCode: Int32) {
    let report = ErrorReport(VMCheckpointError(.cancelled, "interrupted"), interruptedBy: signal)
    #expect(report.status == .signal(signal))
    #expect(report.status.shellCode == shellCode)
    #expect(report.json.contains(#""exit_code":\#(shellCode),"#))
  }

  /// A signal that came too late to cancel must not hide why the operation failed.
  @Test func aSignalChangesNoOtherError() {
    let report = ErrorReport(VMCheckpointError(.locked, "busy"), interruptedBy: SIGINT)
    #expect(report.status == .exit(75))
  }
}
