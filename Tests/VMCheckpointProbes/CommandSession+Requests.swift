import ArgumentParser
package import VMCheckpoint
package import VMCheckpointCommands

/// What commands make of their arguments, without running them: a seam for tests.
extension CommandSession {
  /// The request of `save`.
  ///
  /// - Throws: ``VMCheckpointError``, or ArgumentParser's errors.
  package func saveRequest() throws -> SaveRequest {
    try parsed(as: SaveCommand.self).makeRequest(in: self, storePath: "vmckpt.db")
  }

  /// The request of `restore`.
  ///
  /// - Throws: ``VMCheckpointError``, or ArgumentParser's errors.
  package func restoreRequest() throws -> RestoreRequest {
    try parsed(as: RestoreCommand.self).makeRequest(in: self)
  }

  /// The request of `convert`.
  ///
  /// - Throws: ``VMCheckpointError``, or ArgumentParser's errors.
  package func convertRequest() throws -> ConvertRequest {
    try parsed(as: ConvertCommand.self).makeRequest(in: self)
  }

  /// The store that any command would open.
  ///
  /// - Throws: ``VMCheckpointError``, or ArgumentParser's errors.
  package func storePath() throws -> String {
    guard let command = try VMCheckpointTool.parseAsRoot(arguments) as? any VerbCommand else {
      throw ArgumentError("no command")
    }
    return try command.common.storePath(environment: environment)
  }

  /// The number of threads that `save` was told to use.
  ///
  /// - Throws: ArgumentParser's errors.
  package func saveThreadCount() throws -> Int? {
    try parsed(as: SaveCommand.self).threadOptions.threads
  }

  /// The program that `sql` would become.
  ///
  /// - Throws: ``VMCheckpointError``, or ArgumentParser's errors.
  package func sqlProgram() throws -> ProgramInvocation {
    try parsed(as: SQLCommand.self).program(in: self)
  }

  private func parsed<Command: ParsableCommand>(as type: Command.Type) throws -> Command {
    guard let command = try VMCheckpointTool.parseAsRoot(arguments) as? Command else {
      throw ArgumentError("not the command \(type)")
    }
    return command
  }
}

extension VMCheckpointTool {
  /// The names of the commands, and their help on a terminal of 80 columns.
  package static var helpTexts: [(verb: String, text: String)] {
    helpTexts(below: VMCheckpointTool.self, prefix: "")
  }

  private static func helpTexts(
    below command: any ParsableCommand.Type,
    prefix: String
  ) -> [(verb: String, text: String)] {
    command.configuration.subcommands.flatMap { command in
      let name = prefix + (command.configuration.commandName ?? "")
      return [(name, helpMessage(for: command, columns: 80))]
        + helpTexts(below: command, prefix: "\(name)-")
    }
  }
}
