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
  /// More ranges of PFNs than this are counted in text; JSON has all.
  private static let maximumShownRangeCount = 8
  /// More names of snapshots than this are counted in text.
  private static let maximumShownNameCount = 20
  /// A longer message is cut in text: SQLite's may name many pages.
  private static let maximumShownMessageLength = 200

  var sound: Bool
  /// `null`: the whole store, or the snapshots that were named.
  @Nullable var part: String?
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
  /// What probably happened, and what to do.
  @Nullable var hint: String?

  enum CodingKeys: String, CodingKey {
    case sound
    case part
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
    case hint
  }

  /// What is printed of `report`.
  package init(_ report: VerifyReport, warnings: [String]) {
    sound = report.isSound
    part = report.part.isWhole ? nil : "\(report.part.number)/\(report.part.count)"
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
    hint =
      report.problems.contains(where: Self.isSignOfTornFile)
      ? "the file's parts do not fit together, as in a copy that was made while somebody wrote to the store; "
        + "if it is one, copy the store with: vmckpt backup"
      : nil
  }

  /// Whether rows and SQLite's pages do not fit together. A disk that fails damages what is in a row as well, and few rows
  /// hold anything but guests' pages.
  private static func isSignOfTornFile(_ problem: VerifyReport.Problem) -> Bool {
    problem.subject == "database" || problem.message == "it is missing"
      || problem.message.hasPrefix("it cannot be read")
  }

  package var exitCode: Int32 { sound ? SysExit.ok : SysExit.dataError }

  package var text: String {
    let checked = [
      HumanReadable.count(checkedSnapshots, "snapshot"),
      HumanReadable.count(checkedChunks, "chunk"), HumanReadable.count(checkedPages, "page"),
      HumanReadable.bytes(checkedStoredBytes),
    ].joined(separator: ", ")
    let ofPart = part.map { " of part \($0)" } ?? ""
    let work =
      "Checked \(checked)\(ofPart) in \(HumanReadable.seconds(durationSeconds))\n"
      + (remoteChunks > 0
        ? "Not checked: \(HumanReadable.count(remoteChunks, "chunk")) whose data is in a remote only\n"
        : "")
    guard !sound else { return "Sound\n\(work)" }

    let missing = problemCount - min(problemCount, UInt64(problems.count))
    return "DAMAGED: \(HumanReadable.count(problemCount, "problem"))\n"
      + (hint.map { $0.prefix(1).uppercased() + $0.dropFirst() + "\n" } ?? "")
      + problems.map(Self.lines).joined()
      + (missing > 0 ? "  \(missing) more\n" : "")
      + "Damaged snapshots: \(Self.list(damagedSnapshots))\n"
      + (part == nil
        ? ""
        : "Others may be damaged by the same: a whole verify, without --part, names them all\n")
      + work
  }

  private static func lines(_ problem: Problem) -> String {
    let message = printable(problem.message)
    let isLong = message.count > maximumShownMessageLength
    var text = "  \(printable(problem.subject)): \(message.prefix(maximumShownMessageLength))"
    text += isLong ? "… (--json has all)\n" : "\n"
    guard !problem.snapshots.isEmpty else { return text }
    text += "    snapshots: \(list(problem.snapshots))\n"
    for victim in problem.damage.prefix(maximumShownVictimCount) {
      let ranges = victim.pages.prefix(maximumShownRangeCount).map(\.text).joined(separator: ", ")
      let hidden = victim.pages.count - min(victim.pages.count, maximumShownRangeCount)
      let more =
        hidden > 0 ? ", and \(HumanReadable.count(hidden, "more range")) (--json has all)" : ""
      text += "    PFNs in \(printable(victim.snapshot)): \(ranges)\(more)\n"
    }
    return text
  }

  private static func list(_ names: [String]) -> String {
    let shown = names.prefix(maximumShownNameCount).map { printable($0) }.joined(separator: ", ")
    let hidden = names.count - min(names.count, maximumShownNameCount)
    return names.isEmpty ? "none" : shown + (hidden > 0 ? ", and \(hidden) more" : "")
  }
}
