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

    enum CodingKeys: String, CodingKey {
      case name, uuid, vm
      case startedAt = "started_at"
      case kept, reasons
    }
  }

  var dryRun: Bool
  /// In the order of their saving.
  var snapshots: [Snapshot]
  /// `null`: nothing was deleted, or freeing was left to `gc`, because others used the store.
  @Nullable var collected: CollectOutput?
  var warnings: [String]

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
        reasons: snapshot.reasons.map(\.text)
      )
    }
    collected = result.collected.map(CollectOutput.init)
    self.warnings = warnings
  }

  package var notice: String? { snapshots.isEmpty ? "there are no snapshots to look at" : nil }

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
