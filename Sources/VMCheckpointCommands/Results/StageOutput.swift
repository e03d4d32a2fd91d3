import VMCheckpoint

/// How long a stage of `save`, `restore` or `convert` took.
struct StageOutput: Codable, Sendable, Hashable {
  var stage: String
  var seconds: Double
  var bytes: UInt64

  init(_ time: StageTime) {
    stage = time.stage
    seconds = HumanReadable.milliseconds(time.seconds)
    bytes = time.byteCount
  }

  /// A table of `stages` with their rates, indented below a result's other lines.
  static func text(_ stages: [StageOutput]) -> String {
    TextTable(
      [("STAGE", .left), ("THREADS' TIME", .right), ("BYTES", .right), ("RATE", .right)],
      rows: stages.map { stage in
        let rate = stage.seconds > 0 ? Double(stage.bytes) / stage.seconds : 0
        return [
          stage.stage, text(seconds: stage.seconds),
          HumanReadable.bytes(stage.bytes),
          rate > 0 && rate < 1e15 ? HumanReadable.bytes(UInt64(rate)) + "/s" : "",
        ]
      }
    ).text(indentation: "  ")
  }

  /// Always has three decimals, so that those of all lines are below each other.
  static func text(seconds: Double) -> String {
    let milliseconds = UInt64((max(0, seconds) * 1000).rounded())
    let decimals = String(milliseconds % 1000)
    return
      "\(milliseconds / 1000).\(String(repeating: "0", count: 3 - decimals.count))\(decimals) s"
  }
}
