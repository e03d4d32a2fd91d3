import Testing
import VMCheckpointTestSupport

/// Expects a command to have failed with this exit code, exactly this line on standard error and
/// nothing on standard output.
func expectFailure(
  _ outcome: ProcessOutcome,
  _ code: Int32,
  _ message: String,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(outcome.ending == .exit(code), "\(outcome)", sourceLocation: sourceLocation)
  #expect(outcome.standardError == "vmckpt: \(message)\n", sourceLocation: sourceLocation)
  #expect(outcome.text == "", sourceLocation: sourceLocation)
}

/// Expects a command to have succeeded without a warning.
func expectSuccess(
  _ outcome: ProcessOutcome,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(outcome.ending == .exit(0), "\(outcome)", sourceLocation: sourceLocation)
  #expect(outcome.standardError == "", sourceLocation: sourceLocation)
}

/// Expects a store to be sound, to hold exactly these snapshots, and after a gc nothing else.
func expectSound(
  _ bench: Workbench,
  _ snapshots: [(name: String, ram: [UInt8])],
  _ when: String,
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  let problems = try bench.problems(expecting: snapshots)
  #expect(problems.isEmpty, "\(when)", sourceLocation: sourceLocation)
}
