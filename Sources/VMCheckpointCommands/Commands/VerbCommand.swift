package import ArgumentParser
package import VMCheckpoint

/// A command of the tool: its arguments, and one call of the library that makes its result.
package protocol VerbCommand: ParsableCommand {
  associatedtype Output: CommandOutput

  var common: CommonOptions { get }

  /// Whether standard output carries RAM, so that the result goes to standard error.
  var standardOutputCarriesRAM: Bool { get }

  /// What the command has done, and what lasts, when only its report is missing: a clause about one
  /// thing, such as `the snapshot is saved`. `nil` for commands that only report.
  var accomplishment: String? { get }

  /// Does what the command is for. Prints nothing but warnings and progress.
  func perform(in session: CommandSession) throws(VMCheckpointError) -> Output
}

extension VerbCommand {
  package var standardOutputCarriesRAM: Bool { false }
  package var accomplishment: String? { nil }
}

/// A command that becomes another program when it has seen to its arguments.
protocol HandoverCommand: ParsableCommand {
  var common: CommonOptions { get }

  /// What to run. Prints nothing.
  func program(in session: CommandSession) throws(VMCheckpointError) -> ProgramInvocation
}
