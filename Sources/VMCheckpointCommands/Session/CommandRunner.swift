import ArgumentParser
import VMCheckpoint

/// Takes a command from its arguments to the process's end: parses, performs, and delivers the
/// result or the error.
package enum CommandRunner {
  /// Runs the command that `session` was started with.
  package static func run(_ session: CommandSession) -> CommandStatus {
    if session.handlesSignals { SignalWatch.ignoreWriteFailures() }
    if let notUTF8 = session.notUTF8 {
      let error = VMCheckpointError(
        .invalidArgument,
        "\(notUTF8) is not UTF-8",
        hint: "give the file a name in UTF-8, or a symbolic link with such a name"
      )
      return fail(ErrorReport(error), asJSON: session.wantsJSON, in: session)
    }
    if let error = UsageMessage.clusteredOption(in: session.arguments) {
      return fail(ErrorReport(error), asJSON: session.wantsJSON, in: session)
    }
    do {
      var command = try VMCheckpointTool.parseAsRoot(session.arguments)
      if let verb = command as? any VerbCommand {
        return execute(verb, in: session)
      }
      if let handover = command as? any HandoverCommand {
        return hand(over: handover, in: session)
      }
      guard !(command is VMCheckpointTool), !(command is RemoteCommand) else {
        let error =
          command is RemoteCommand
          ? UsageMessage.missingSubcommand(of: "remote") : UsageMessage.missingCommand
        return fail(ErrorReport(error), asJSON: session.wantsJSON, in: session)
      }
      // `vmckpt help`: its text is thrown.
      try command.run()
      return .exit(0)
    } catch {
      return conclude(error, in: session)
    }
  }

  /// Performs `command` and delivers its result.
  static func execute<Command: VerbCommand>(
    _ command: Command,
    in session: CommandSession
  ) -> CommandStatus {
    let output: Command.Output
    do {
      try requireResources(in: session)
      output = try command.perform(in: session)
    } catch {
      return fail(
        ErrorReport(error, interruptedBy: SignalWatch.receivedSignal),
        asJSON: command.common.json,
        in: session
      )
    }
    do {
      let errorOutput = OutputDescriptor(descriptor: session.standardError)
      let results =
        command.standardOutputCarriesRAM
        ? errorOutput : OutputDescriptor(descriptor: session.standardOutput)
      if command.common.json {
        try results.write(JSONText.document(output))
      } else {
        if let notice = output.notice {
          try errorOutput.write("vmckpt: \(printable(notice))\n")
        }
        try results.write(output.text)
      }
    } catch {
      return failDelivery(
        error,
        after: command.accomplishment,
        asJSON: command.common.json,
        in: session
      )
    }
    guard let failure = output.failure else { return .exit(output.exitCode) }
    return fail(
      ErrorReport(failure, interruptedBy: SignalWatch.receivedSignal),
      asJSON: command.common.json,
      in: session
    )
  }

  private static func requireResources(in session: CommandSession) throws(VMCheckpointError) {
    // Tests that run commands side by side share a process.
    if session.handlesSignals { try ProcessResources.require() }
  }

  /// Says which program `command` is to become.
  static func hand(over command: any HandoverCommand, in session: CommandSession) -> CommandStatus {
    do {
      try requireResources(in: session)
      return .program(try command.program(in: session))
    } catch {
      return fail(ErrorReport(error), asJSON: command.common.json, in: session)
    }
  }

  /// Ends what ArgumentParser threw: a text that was asked for, or a usage error.
  private static func conclude(_ error: any Error, in session: CommandSession) -> CommandStatus {
    guard VMCheckpointTool.exitCode(for: error) == .success else {
      let usageError = UsageMessage.error(
        message: VMCheckpointTool.message(for: error),
        arguments: session.arguments
      )
      return fail(ErrorReport(usageError), asJSON: session.wantsJSON, in: session)
    }
    let text = VMCheckpointTool.fullMessage(for: error)
    do {
      let isVersion = text == VMCheckpointTool.configuration.version
      try OutputDescriptor(descriptor: session.standardOutput)
        .write(
          session.wantsJSON && isVersion ? JSONText.document(VersionOutput()) : text + "\n"
        )
      return .exit(0)
    } catch {
      return failDelivery(error, after: nil, asJSON: false, in: session)
    }
  }

  /// - Parameter accomplishment: What was done all the same.
  private static func failDelivery(
    _ failure: OutputFailure,
    after accomplishment: String?,
    asJSON: Bool,
    in session: CommandSession
  ) -> CommandStatus {
    let report = ErrorReport(
      VMCheckpointError(
        .inputOutput,
        (accomplishment.map { "\($0), but its report cannot be written: " }
          ?? "cannot write the result: ") + systemErrorText(failure.errorNumber)
      )
    )
    return failure.isBrokenPipe
      ? report.status : fail(report, asJSON: asJSON, in: session)
  }

  private static func fail(
    _ report: ErrorReport,
    asJSON: Bool,
    in session: CommandSession
  ) -> CommandStatus {
    // If standard error is gone too, the exit code still reports the failure.
    try? OutputDescriptor(descriptor: session.standardError)
      .write(asJSON ? report.json : report.line)
    return report.status
  }
}
