import FoundationEssentials
import Glibc
import VMCheckpoint

/// What a command was started with and where it writes: the process's own, or a test's.
package struct CommandSession: Sendable {
  /// Without the program's name.
  package var arguments: [String]
  package var environment: [String: String]
  package var standardInput: Int32
  package var standardOutput: Int32
  package var standardError: Int32

  /// What of the command line or the environment is not UTF-8, for a message; `nil`: nothing. Such
  /// bytes would be replaced on their way through `String`, and the wrong file be used.
  package var notUTF8: String?

  /// Whether SIGINT, SIGTERM and SIGHUP cancel long operations. Signals belong to the whole
  /// process, so tests that run commands side by side turn this off.
  package var handlesSignals: Bool

  package init(
    arguments: [String],
    environment: [String: String],
    standardInput: Int32,
    standardOutput: Int32,
    standardError: Int32,
    handlesSignals: Bool
  ) {
    self.arguments = arguments
    self.environment = environment
    self.standardInput = standardInput
    self.standardOutput = standardOutput
    self.standardError = standardError
    self.handlesSignals = handlesSignals
  }

  /// The session of this process.
  static func ofThisProcess() -> CommandSession {
    var session = CommandSession(
      arguments: Array(ProcessArguments.all.dropFirst()),
      environment: ProcessInfo.processInfo.environment,
      standardInput: STDIN_FILENO,
      standardOutput: STDOUT_FILENO,
      standardError: STDERR_FILENO,
      handlesSignals: true
    )
    session.notUTF8 = findNotUTF8()
    return session
  }

  private static func findNotUTF8() -> String? {
    if let index = ProcessArguments.firstNotUTF8 { return "argument \(index)" }
    if let path = getenv(CommonOptions.storeVariable), String(validatingCString: path) == nil {
      return CommonOptions.storeVariable
    }
    return nil
  }

  /// Whether `descriptor` is a terminal.
  func isTerminal(_ descriptor: Int32) -> Bool { isatty(descriptor) == 1 }

  /// Whether standard error can show a line that changes in place.
  var showsProgress: Bool { isTerminal(standardError) && environment["TERM"] != "dumb" }

  /// Whether standard output can show colours, and the user has not asked for none
  /// (https://no-color.org).
  var usesColour: Bool {
    isTerminal(standardOutput) && environment["TERM"] != "dumb"
      && environment["NO_COLOR", default: ""].isEmpty
  }

  /// Whether the arguments ask for JSON, also where they are otherwise wrong.
  var wantsJSON: Bool {
    arguments.prefix { $0 != "--" }.contains("--json")
  }
}
