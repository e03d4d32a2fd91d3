import ArgumentParser
import VMCheckpoint

/// The errors of a command line that ArgumentParser could not read.
enum UsageMessage {
  /// No verb.
  static let missingCommand = VMCheckpointError(
    .invalidArgument,
    "a command is missing",
    hint: "see 'vmckpt --help'"
  )

  /// A verb such as `remote` without its subcommand.
  static func missingSubcommand(of verb: String) -> VMCheckpointError {
    VMCheckpointError(
      .invalidArgument,
      "a subcommand of '\(verb)' is missing",
      hint: "see 'vmckpt \(verb) --help'"
    )
  }

  /// One line out of ArgumentParser's `message`, and where to read more.
  static func error(message: String, arguments: [String]) -> VMCheckpointError {
    guard let first = arguments.first, VMCheckpointTool.verbs.contains(first) else {
      let isVerb = arguments.first.map { !$0.hasPrefix("-") && $0 != "help" } ?? false
      return VMCheckpointError(
        .invalidArgument,
        isVerb ? "unknown command '\(arguments[0])'" : sentence(message),
        hint: "see 'vmckpt --help'"
      )
    }
    var command = first
    if let subcommands = VMCheckpointTool.subcommands(of: first), arguments.count > 1 {
      let second = arguments[1]
      if subcommands.contains(second) {
        command += " \(second)"
      } else if !second.hasPrefix("-"), second != "help" {
        return VMCheckpointError(
          .invalidArgument,
          "unknown command '\(first) \(second)'",
          hint: "see 'vmckpt \(first) --help'"
        )
      }
    }
    return VMCheckpointError(
      .invalidArgument,
      sentence(message),
      hint: "see 'vmckpt \(command) --help'"
    )
  }

  /// The error for `-dash.ram` and its like. ArgumentParser takes it for short options, finds `-h` among them, and
  /// prints the help with exit code 0.
  static func clusteredOption(in arguments: [String]) -> VMCheckpointError? {
    for argument in arguments.dropFirst().prefix(while: { $0 != "--" }) {
      let letters = argument.dropFirst()
      guard argument.hasPrefix("-"), !letters.hasPrefix("-"), letters.count > 1,
        letters.contains("h")
      else { continue }
      return VMCheckpointError(
        .invalidArgument,
        "unknown option '\(argument)'",
        hint: "give a name that begins with a dash after --, or with ./ before it"
      )
    }
    return nil
  }

  /// `message` on one line, as the beginning of a longer one.
  private static func sentence(_ message: String) -> String {
    let line = listed(message.split(whereSeparator: \.isNewline).map(String.init))
    let end = line.hasSuffix(".") ? line.dropLast() : line[...]
    return end.isEmpty ? "invalid arguments" : end.prefix(1).lowercased() + end.dropFirst()
  }
}

extension UsageMessage {
  /// The lines in one. A long list of values, which ArgumentParser gives a line each, becomes one as a
  /// sentence has it.
  private static func listed(_ lines: [String]) -> String {
    let bullet = "  - "
    let values = lines.filter { $0.hasPrefix(bullet) }.map { "'\($0.dropFirst(bullet.count))'" }
    guard let last = values.last, let first = lines.firstIndex(where: { $0.hasPrefix(bullet) }),
      lines[first...].allSatisfy({ $0.hasPrefix(bullet) }),
      let head = lines[..<first].last?.hasSuffix("one of the following:"), head
    else { return lines.joined(separator: " ") }
    let text = lines[..<first].joined(separator: " ").dropLast(" the following:".count)
    return "\(text) \(values.dropLast().joined(separator: ", ")) or \(last)"
  }
}

extension VMCheckpointTool {
  /// The names of the commands.
  static var verbs: [String] {
    configuration.subcommands.compactMap { $0.configuration.commandName }
  }

  /// The names of the commands below `verb`; `nil`: it has none.
  static func subcommands(of verb: String) -> [String]? {
    let command = configuration.subcommands.first { $0.configuration.commandName == verb }
    let below = command?.configuration.subcommands.compactMap { $0.configuration.commandName } ?? []
    return below.isEmpty ? nil : below
  }
}
