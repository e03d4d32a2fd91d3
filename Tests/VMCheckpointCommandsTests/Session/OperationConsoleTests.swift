import Testing
import VMCheckpoint
import VMCheckpointCommands

@Suite struct OperationConsoleTests {
  private func report(_ phase: String, on console: OperationConsole) {
    console.report(phase: phase, completedByteCount: 1 << 20, totalByteCount: nil)
  }

  @Test func aWarningTakesTheLineOfTheProgress() throws {
    let terminal = try PseudoTerminal()
    terminal.setColumnCount(20)
    let console = OperationConsole(
      descriptor: terminal.descriptor,
      showsProgress: true,
      printsWarnings: true
    )
    report("saving", on: console)
    console.warn("bad\nthing")
    report("a phase with a long name", on: console)
    console.finish()
    console.finish()
    #expect(
      terminal.written() == "\rsaving  1.0 MiB\u{1B}[K"
        + "\r\u{1B}[Kvmckpt: warning: bad\\nthing\r\n"
        + "\ra phase with a long\u{1B}[K"
        + "\r\u{1B}[K"
    )
    #expect(console.warnings == ["bad\nthing"])
  }

  @Test func withoutATerminalThereAreOnlyWarnings() throws {
    let terminal = try PseudoTerminal()
    let console = OperationConsole(
      descriptor: terminal.descriptor,
      showsProgress: false,
      printsWarnings: true
    )
    report("saving", on: console)
    console.warn("w")
    console.finish()
    #expect(terminal.written() == "vmckpt: warning: w\r\n")
  }

  /// With `--json` warnings stand in the result.
  @Test func warningsCanBeKeptOnly() throws {
    let terminal = try PseudoTerminal()
    let console = OperationConsole(
      descriptor: terminal.descriptor,
      showsProgress: false,
      printsWarnings: false
    )
    console.warn("w")
    report("x", on: console)
    console.finish()
    #expect(terminal.written() == "")
    #expect(console.warnings == ["w"])
  }
}
