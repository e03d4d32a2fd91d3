package import VMCheckpoint

/// What `prune` prints.
package struct PruneOutput: CommandOutput, Hashable {
  struct Snapshot: Codable, Hashable, Sendable {
    var name: String
    var uuid: String
    var vm: String
    var startedAt: String
    var kept: Bool
    var reasons: [String]
    @Nullable var aheadSeconds: Double?

    enum CodingKeys: String, CodingKey {
      case name, uuid, vm
      case startedAt = "started_at"
      case kept, reasons
      case aheadSeconds = "ahead_seconds"
    }
  }

  var dryRun: Bool
  /// In the order of their saving.
  var snapshots: [Snapshot]
  /// `null`: nothing was deleted, or freeing was left to `gc`, because others used the store.
  @Nullable var collected: CollectOutput?
  var warnings: [String]

  /// The warning about snapshots that are dated ahead, if there are any; not in JSON but among the others.
  private var aheadWarning: String?

  enum CodingKeys: String, CodingKey {
    case dryRun = "dry_run"
    case snapshots, collected, warnings
  }

  /// What is printed of `result`.
  package init(_ result: PruneResult, warnings: [String]) {
    dryRun = result.dryRun
    snapshots = result.snapshots.map { snapshot in
      Snapshot(
        name: snapshot.name,
        uuid: snapshot.uuid,
        vm: snapshot.vm,
        startedAt: snapshot.startedAt,
        kept: !snapshot.reasons.isEmpty,
        reasons: snapshot.reasons.map(\.text),
        aheadSeconds: snapshot.aheadSeconds.map(HumanReadable.milliseconds)
      )
    }
    collected = result.collected.map(CollectOutput.init)
    aheadWarning = Self.aheadWarning(snapshots)
    self.warnings = warnings + [aheadWarning].compactMap { $0 }
  }

  package var notice: String? {
    snapshots.isEmpty
      ? "there are no snapshots to look at" : aheadWarning.map { "warning: \($0)" }
  }

  /// - Returns: One line, however many there are; `nil`: all that stay are of the past.
  private static func aheadWarning(_ snapshots: [Snapshot]) -> String? {
    let ahead = snapshots.filter { $0.kept && $0.aheadSeconds != nil }
      .sorted { $0.aheadSeconds ?? 0 > $1.aheadSeconds ?? 0 }
    guard !ahead.isEmpty else { return nil }
    let shown = ahead.prefix(shownAheadCount).map {
      "\(quotedName($0.name)) by \(HumanReadable.age($0.aheadSeconds ?? 0))"
    }
    let others = ahead.count > shown.count ? ["\(ahead.count - shown.count) more"] : []
    return """
      \(ahead.count == 1 ? "1 snapshot that stays is" : "\(ahead.count) snapshots that stay are") \
      dated later than now: \((shown + others).joined(separator: ", ")); if this machine's clock is \
      wrong, set it; if another was when they were saved, rules that look at time keep them too \
      long: delete them by name
      """
  }

  /// Of how many snapshots that are dated ahead the warning has names.
  private static let shownAheadCount = 3

  package var text: String {
    guard !snapshots.isEmpty else { return "" }
    let goes = dryRun ? "would go" : "deleted"
    let table = TextTable(
      [("SNAPSHOT", .left), ("VM", .left), ("SAVED", .left), ("DONE", .left), ("WHY", .left)],
      rows: snapshots.map { snapshot in
        [
          snapshot.name, snapshot.vm, snapshot.startedAt, snapshot.kept ? "stays" : goes,
          snapshot.reasons.joined(separator: ", "),
        ]
      }
    )
    let deletedCount = snapshots.count { !$0.kept }
    let counts =
      "\(HumanReadable.count(UInt64(deletedCount), "snapshot")) \(dryRun ? "would go" : "deleted"), "
      + "\(snapshots.count - deletedCount) kept\n"
    guard !dryRun, deletedCount > 0 else { return table.text() + "\n" + counts }
    return table.text() + "\n" + counts
      + (collected?.text ?? "The store is in use: 'vmckpt gc' will free the space later\n")
  }
}

extension RetentionReason {
  /// In a few words.
  fileprivate var text: String {
    switch self {
    case .last: "last"
    case .period(let period): period.rawValue
    case .within: "within"
    case .tag(let condition):
      "tag \(condition.key)" + (condition.value.map { "=\($0)" } ?? "")
    case .parent: "has children"
    case .lease(let id): "served (lease \(id))"
    case .newest: "newest of its VM"
    }
  }
}
