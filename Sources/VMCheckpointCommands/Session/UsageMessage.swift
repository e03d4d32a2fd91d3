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
    return VMCheckpointError(
      .invalidArgument,
      sentence(message),
      hint: "see 'vmckpt \(first) --help'"
    )
  }

  /// `message` on one line, as the beginning of a longer one.
  private static func sentence(_ message: String) -> String {
    let line = message.split(whereSeparator: \.isNewline).joined(separator: " ")
    let end = line.hasSuffix(".") ? line.dropLast() : line[...]
    return end.isEmpty ? "invalid arguments" : end.prefix(1).lowercased() + end.dropFirst()
  }
}

extension VMCheckpointTool {
  /// The names of the commands.
  static var verbs: [String] {
    configuration.subcommands.compactMap { $0.configuration.commandName }
  }
}
