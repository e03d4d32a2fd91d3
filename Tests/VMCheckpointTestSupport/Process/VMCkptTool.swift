import Foundation

/// The built `vmckpt`, used on one store.
package struct VMCkptTool {
  package let storePath: String
  private let binaryPath: String

  /// - Throws: ``TestSetupError`` when VMCKPT_BINARY names no program.
  package init(storePath: String) throws {
    self.storePath = storePath
    binaryPath = try Self.path()
  }

  /// The built binary.
  package static func path() throws -> String {
    guard let path = environmentValue("VMCKPT_BINARY"), exists(path) else {
      throw TestSetupError(
        "VMCKPT_BINARY does not name the built vmckpt; run the tests with Scripts/test"
      )
    }
    return path
  }

  /// Command line for `vmckpt ARGUMENTS` on the store.
  package func commandLine(_ arguments: [String]) -> [String] {
    [binaryPath] + arguments + ["--store", storePath]
  }

  /// Starts `vmckpt ARGUMENTS` on the store.
  package func start(
    _ arguments: [String],
    input: ChildProcess.Input = .null,
    outputDescriptor: Int32? = nil
  ) throws -> ChildProcess {
    try ChildProcess(
      commandLine(arguments),
      input: input,
      outputDescriptor: outputDescriptor
    )
  }

  /// Runs `vmckpt ARGUMENTS` on the store to its end.
  package func run(
    _ arguments: String...,
    input: ChildProcess.Input = .null,
    timeoutSeconds: Double = patienceSeconds
  ) throws -> ProcessOutcome {
    try start(arguments, input: input).wait(timeoutSeconds: timeoutSeconds)
  }

  /// Runs a command that must succeed.
  @discardableResult
  package func succeed(
    _ arguments: String...,
    input: ChildProcess.Input = .null
  ) throws -> ProcessOutcome {
    let outcome = try start(arguments, input: input).wait()
    guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
    return outcome
  }

  /// Runs a command with `--json` that must succeed, and parses what it prints.
  package func json(
    _ arguments: String...,
    input: ChildProcess.Input = .null
  ) throws -> [String: Any] {
    let outcome = try start(arguments + ["--json"], input: input).wait()
    guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
    return try outcome.jsonObject()
  }

  /// Restores a snapshot to a new file and returns its bytes.
  package func restored(
    _ reference: String,
    _ options: String...,
    in directory: TemporaryDirectory
  ) throws -> [UInt8] {
    let path = directory.file("restored-\(UUID().uuidString)")
    defer { unlink(path) }
    let outcome = try start(["restore", reference, "-o", path] + options).wait()
    guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
    return try readFile(path)
  }

  /// The names of the store's snapshots in the order of their saving.
  package func snapshotNames() throws -> [String] {
    let snapshots = try json("list")["snapshots"] as? [[String: Any]] ?? []
    return snapshots.compactMap { $0["name"] as? String }
  }

  /// Runs `vmckpt verify`.
  package func verify() throws -> ProcessOutcome { try run("verify") }
}

extension ProcessOutcome {
  /// Standard output as one JSON object.
  package func jsonObject() throws -> [String: Any] {
    guard
      let object = try JSONSerialization.jsonObject(with: Data(standardOutput)) as? [String: Any]
    else { throw TestSetupError("no JSON object: \(self)") }
    return object
  }

  /// Whether the process ended as the exit code table says, and neither crashed nor hung.
  package var endedOrderly: Bool {
    guard case .exit(let code) = ending else { return false }
    return [0, 64, 65, 66, 69, 71, 73, 74, 75, 77].contains(code)
  }
}
