package import VMCheckpointFormats

/// What `resume` prints at its end.
package struct ResumeOutput: CommandOutput, Hashable {
  var name: String
  var uuid: String
  var lazy: String
  @Nullable var qemuExitCode: Int32?
  @Nullable var qemuSignal: Int32?
  var servers: Int
  /// What the server reported.
  @Nullable var served: PostcopyOutput?
  var durationSeconds: Double
  var warnings: [String]

  enum CodingKeys: String, CodingKey {
    case name, uuid, lazy
    case qemuExitCode = "qemu_exit_code"
    case qemuSignal = "qemu_signal"
    case servers, served
    case durationSeconds = "duration_seconds"
    case warnings
  }

  /// What is printed of `result`.
  package init(_ result: QEMUResumeResult, served: PostcopyOutput?, warnings: [String]) {
    name = result.name
    uuid = result.uuid
    lazy = result.laziness.rawValue
    qemuExitCode = result.exitCode
    qemuSignal = result.signal
    servers = result.serverCount
    self.served = served
    durationSeconds = HumanReadable.milliseconds(result.durationSeconds)
    self.warnings = warnings
  }

  package var text: String {
    (served?.text ?? "")
      + "QEMU ended after \(HumanReadable.seconds(durationSeconds))"
      + (qemuExitCode.map { $0 == 0 ? "\n" : ", with exit code \($0)\n" }
        ?? qemuSignal.map { ", by signal \($0)\n" } ?? "\n")
  }

  /// As a shell has it.
  package var exitCode: Int32 { qemuExitCode ?? 128 + (qemuSignal ?? 0) }
}
