package import VMCheckpoint

/// The result of a command: encoded it is what `--json` prints, and `text` is made from the same
/// values.
package protocol CommandOutput: Codable, Sendable {
  /// For people; every line ends in a newline.
  var text: String { get }

  /// A line for people that is no part of the result, for standard error.
  var notice: String? { get }

  /// The process's exit code.
  var exitCode: Int32 { get }

  /// What kept the command from doing the rest, where the result is of a part. It is reported after the result, on
  /// standard error, and decides the exit code.
  var failure: VMCheckpointError? { get }
}

extension CommandOutput {
  package var notice: String? { nil }
  package var exitCode: Int32 { SysExit.ok }
  package var failure: VMCheckpointError? { nil }
}
