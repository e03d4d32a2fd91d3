package import VMCheckpoint

/// What `verify` prints.
package struct VerifyOutput: CommandOutput, Hashable {
  struct Problem: Codable, Hashable, Sendable {
    var subject: String
    var message: String
    var snapshots: [String]
    var damage: [Victim]
  }

  struct Victim: Codable, Hashable, Sendable {
    var snapshot: String
    var pages: [PageRangeOutput]
  }

  /// More snapshots than this are named in text without their PFNs.
  private static let maximumShownVictimCount = 10

  var sound: Bool
  var checkedSnapshots: UInt64
  var checkedChunks: UInt64
  var checkedPages: UInt64
  var checkedStoredBytes: UInt64
  /// Chunks whose data is in a remote only.
  var remoteChunks: UInt64
  var problemCount: UInt64
  /// At most ``VerifyReport/maximumProblemCount``.
  var problems: [Problem]
  var damagedSnapshots: [String]
  var durationSeconds: Double
  var warnings: [String]

  enum CodingKeys: String, CodingKey {
    case sound
    case checkedSnapshots = "checked_snapshots"
    case checkedChunks = "checked_chunks"
    case checkedPages = "checked_pages"
    case checkedStoredBytes = "checked_stored_bytes"
    case remoteChunks = "remote_chunks"
    case problemCount = "problem_count"
    case problems
    case damagedSnapshots = "damaged_snapshots"
    case durationSeconds = "duration_seconds"
    case warnings
  }

  /// What is printed of `report`.
  package init(_ report: VerifyReport, warnings: [String]) {
    sound = report.isSound
    checkedSnapshots = report.snapshotCount
    checkedChunks = report.chunkCount
    checkedPages = report.pageCount
    checkedStoredBytes = report.storedByteCount
    remoteChunks = report.remoteChunkCount
    problemCount = report.problemCount
    problems = report.problems.map { problem in
      Problem(
        subject: problem.subject,
        message: problem.message,
        snapshots: problem.victims.map(\.snapshot),
        damage: problem.victims.filter { !$0.pages.isEmpty }.map { victim in
          Victim(snapshot: victim.snapshot, pages: victim.pages.map(PageRangeOutput.init))
        }
      )
    }
    damagedSnapshots = report.damagedSnapshots
    durationSeconds = HumanReadable.milliseconds(report.durationSeconds)
    self.warnings = warnings
  }

  package var exitCode: Int32 { sound ? SysExit.ok : SysExit.dataError }

  package var text: String {
    let checked = [
      HumanReadable.count(checkedSnapshots, "snapshot"),
      HumanReadable.count(checkedChunks, "chunk"), HumanReadable.count(checkedPages, "page"),
      HumanReadable.bytes(checkedStoredBytes),
    ].joined(separator: ", ")
    let work =
      "Checked \(checked) in \(HumanReadable.seconds(durationSeconds))\n"
      + (remoteChunks > 0
        ? "Not checked: \(HumanReadable.count(remoteChunks, "chunk")) whose data is in a remote only\n"
        : "")
    guard !sound else { return "Sound\n\(work)" }

    let missing = problemCount - min(problemCount, UInt64(problems.count))
    return "DAMAGED: \(HumanReadable.count(problemCount, "problem"))\n"
      + problems.map(Self.lines).joined()
      + (missing > 0 ? "  \(missing) more\n" : "")
      + "Damaged snapshots: \(Self.list(damagedSnapshots))\n" + work
  }

  private static func lines(_ problem: Problem) -> String {
    var text = "  \(printable(problem.subject)): \(printable(problem.message))\n"
    guard !problem.snapshots.isEmpty else { return text }
    text += "    snapshots: \(list(problem.snapshots))\n"
    for victim in problem.damage.prefix(maximumShownVictimCount) {
      let pages = victim.pages.map(\.text).joined(separator: ", ")
      text += "    PFNs in \(printable(victim.snapshot)): \(pages)\n"
    }
    return text
  }

  private static func list(_ names: [String]) -> String {
    names.isEmpty ? "none" : names.map { printable($0) }.joined(separator: ", ")
  }
}
