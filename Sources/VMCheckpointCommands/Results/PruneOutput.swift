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
    aheadWarning = RetentionTable.aheadWarning(
      result.snapshots.map { ($0.name, $0.aheadSeconds, $0.reasons) }
    )
    self.warnings = warnings + [aheadWarning].compactMap { $0 }
  }

  package var notice: String? {
    snapshots.isEmpty
      ? "there are no snapshots to look at" : aheadWarning.map { "warning: \($0)" }
  }

  package var text: String {
    guard !snapshots.isEmpty else { return "" }
    let table = RetentionTable(
      rows: snapshots.map {
        RetentionTable.Row(name: $0.name, vm: $0.vm, time: $0.startedAt, reasons: $0.reasons)
      },
      dryRun: dryRun
    )
    guard !dryRun, table.deletedCount > 0 else { return table.text }
    return table.text
      + (collected?.text ?? "The store is in use: 'vmckpt gc' will free the space later\n")
  }
}
