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
  var stages: [Stage]
  var durationSeconds: Double
  var warnings: [String]
  /// Whether the text has the stages; JSON always does.
  var showsStages = false

  /// How long one took.
  struct Stage: Codable, Hashable, Sendable {
    var stage: String
    var seconds: Double
  }

  enum CodingKeys: String, CodingKey {
    case name, uuid, lazy
    case qemuExitCode = "qemu_exit_code"
    case qemuSignal = "qemu_signal"
    case servers, served, stages
    case durationSeconds = "duration_seconds"
    case warnings
  }

  /// What is printed of `result`.
  package init(
    _ result: QEMUResumeResult,
    served: PostcopyOutput?,
    warnings: [String],
    showsStages: Bool = false
  ) {
    name = result.name
    uuid = result.uuid
    lazy = result.laziness.rawValue
    qemuExitCode = result.exitCode
    qemuSignal = result.signal
    servers = result.serverCount
    self.served = served
    var stages = result.stages.map { Stage(stage: $0.name, seconds: $0.seconds) }
    if let run = served?.secondsToRun {
      stages.append(Stage(stage: "load", seconds: run))
      if let sent = served?.secondsToSent {
        stages.append(Stage(stage: "send", seconds: max(0, sent - run)))
      }
    }
    self.stages = stages.map { stage in
      Stage(stage: stage.stage, seconds: HumanReadable.milliseconds(stage.seconds))
    }
    self.showsStages = showsStages
    durationSeconds = HumanReadable.milliseconds(result.durationSeconds)
    self.warnings = warnings
  }

  package var text: String {
    (served?.text ?? "")
      + "QEMU ended after \(HumanReadable.seconds(durationSeconds))"
      + (qemuExitCode.map { $0 == 0 ? "\n" : ", with exit code \($0)\n" }
        ?? qemuSignal.map { ", by signal \($0)\n" } ?? "\n")
      + (showsStages ? stageText : "")
  }

  private var stageText: String {
    TextTable(
      [("STAGE", .left), ("TIME", .right)],
      rows: stages.map { [$0.stage, StageOutput.text(seconds: $0.seconds)] }
    ).text(indentation: "  ")
  }

  /// As a shell has it.
  package var exitCode: Int32 { qemuExitCode ?? 128 + (qemuSignal ?? 0) }
}
