/// The result of a command: encoded it is what `--json` prints, and `text` is made from the same
/// values.
package protocol CommandOutput: Codable, Sendable {
  /// For people; every line ends in a newline.
  var text: String { get }

  /// A line for people that is no part of the result, for standard error.
  var notice: String? { get }

  /// The process's exit code.
  var exitCode: Int32 { get }
}

extension CommandOutput {
  package var notice: String? { nil }
  package var exitCode: Int32 { SysExit.ok }
}
