import FoundationEssentials
import Glibc
import VMCheckpointCommands

/// One run of the tool inside this process, with its standard output and error in files.
struct ToolRun {
  let status: CommandStatus
  let output: String
  let errors: String

  /// The exit code.
  var code: Int32 { status.shellCode }

  /// Runs `vmckpt` with `arguments` on the store `store.db` of `directory`.
  ///
  /// - Parameters:
  ///   - input: What stands on standard input.
  ///   - outputPath: Where standard output goes instead.
  init(
    _ arguments: [String],
    in directory: WorkDirectory,
    input: [UInt8] = [],
    outputPath: String? = nil
  ) throws {
    let id = UUID().uuidString
    let inputPath = try directory.write(input, to: "stdin-\(id)")
    let outputFile = outputPath ?? directory.file("stdout-\(id)")
    let errorFile = directory.file("stderr-\(id)")
    let descriptors = [
      open(inputPath, O_RDONLY),
      open(outputFile, O_WRONLY | O_CREAT, 0o600),
      open(errorFile, O_WRONLY | O_CREAT, 0o600),
    ]
    defer { descriptors.forEach { close($0) } }
    status = CommandRunner.run(
      .test(
        arguments,
        environment: ["VMCKPT_STORE": directory.file("store.db")],
        descriptors: descriptors
      )
    )
    output = outputPath == nil ? try Self.text(outputFile) : ""
    errors = try Self.text(errorFile)
  }

  private static func text(_ path: String) throws -> String {
    String(decoding: try Data(contentsOf: URL(filePath: path)), as: UTF8.self)
  }
}

extension CommandSession {
  /// A session whose descriptors are closed unless given.
  static func test(
    _ arguments: [String],
    environment: [String: String] = [:],
    descriptors: [Int32] = [-1, -1, -1]
  ) -> CommandSession {
    CommandSession(
      arguments: arguments,
      environment: environment,
      standardInput: descriptors[0],
      standardOutput: descriptors[1],
      standardError: descriptors[2],
      handlesSignals: false
    )
  }
}
