package import VMCheckpoint

/// What `remote check` prints.
package struct RemoteCheckOutput: CommandOutput, Hashable {
  var remote: String
  var sound: Bool
  var snapshots: Int
  var voidManifests: Int
  var packs: Int
  var readPacks: Int
  var readBytes: UInt64
  var problems: [String]
  var problemCount: Int
  var durationSeconds: Double
  var warnings: [String]

  enum CodingKeys: String, CodingKey {
    case remote, sound, snapshots
    case voidManifests = "void_manifests"
    case packs
    case readPacks = "read_packs"
    case readBytes = "read_bytes"
    case problems
    case problemCount = "problem_count"
    case durationSeconds = "duration_seconds"
    case warnings
  }

  /// What is printed of `result`.
  package init(_ remote: RemoteRow, _ result: RemoteCheckResult, warnings: [String]) {
    self.remote = remote.name
    sound = result.isSound
    snapshots = result.snapshotCount
    voidManifests = result.voidManifestCount
    packs = result.packCount
    readPacks = result.readPackCount
    readBytes = result.readByteCount
    problems = result.problems
    problemCount = result.problemCount
    durationSeconds = HumanReadable.milliseconds(result.durationSeconds)
    self.warnings = warnings
  }

  package var exitCode: Int32 { sound ? SysExit.ok : SysExit.dataError }

  package var text: String {
    var fields = FieldList()
    fields.add("Snapshots", "\(snapshots)")
    if voidManifests > 0 {
      fields.add("Not counted", HumanReadable.count(voidManifests, "manifest"))
    }
    fields.add("Packs", "\(packs)")
    fields.add(
      "Read",
      "\(HumanReadable.count(readPacks, "pack")), \(HumanReadable.bytes(readBytes))"
    )
    let title =
      sound ? "Sound" : "DAMAGED: \(problemCount == 1 ? "1 problem" : "\(problemCount) problems")"
    return "\(title) in \(HumanReadable.seconds(durationSeconds))\n" + fields.text
      + problems.map { "  \(printable($0))\n" }.joined()
  }
}

/// What `remote delete` prints.
package struct RemoteDeleteOutput: CommandOutput, Hashable {
  var remote: String
  var deleted: [String]
  var warnings: [String]

  package var text: String {
    deleted.map { "Deleted \(printable($0)) in \(printable(remote))\n" }.joined()
      + "Free what only they needed with: vmckpt remote gc\n"
  }
}

/// What `remote prune` prints.
package struct RemotePruneOutput: CommandOutput, Hashable {
  struct Snapshot: Codable, Hashable, Sendable {
    var name: String
    var uuid: String
    var vm: String
    var completedAt: String
    var kept: Bool
    var reasons: [String]
    @Nullable var aheadSeconds: Double?

    enum CodingKeys: String, CodingKey {
      case name, uuid, vm
      case completedAt = "completed_at"
      case kept, reasons
      case aheadSeconds = "ahead_seconds"
    }
  }

  var remote: String
  var dryRun: Bool
  /// In the order of their saving.
  var snapshots: [Snapshot]
  var warnings: [String]

  /// The warning about snapshots that are dated ahead, if there are any; not in JSON but among the others.
  private var aheadWarning: String?

  enum CodingKeys: String, CodingKey {
    case remote
    case dryRun = "dry_run"
    case snapshots, warnings
  }

  /// What is printed of `decisions`.
  package init(
    _ remote: String,
    _ decisions: [Retention.Decision],
    dryRun: Bool,
    warnings: [String]
  ) {
    self.remote = remote
    self.dryRun = dryRun
    snapshots = decisions.map { decision in
      Snapshot(
        name: decision.candidate.name,
        uuid: decision.candidate.uuid,
        vm: decision.candidate.vm,
        completedAt: decision.candidate.startedAt,
        kept: !decision.reasons.isEmpty,
        reasons: decision.reasons.map(\.text),
        aheadSeconds: decision.aheadSeconds.map(HumanReadable.milliseconds)
      )
    }
    aheadWarning = RetentionTable.aheadWarning(
      decisions.map { ($0.candidate.name, $0.aheadSeconds, $0.reasons) }
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
        RetentionTable.Row(name: $0.name, vm: $0.vm, time: $0.completedAt, reasons: $0.reasons)
      },
      dryRun: dryRun
    )
    guard !dryRun, table.deletedCount > 0 else { return table.text }
    return table.text + "Free what only they needed with: vmckpt remote gc\n"
  }
}

/// What `remote gc` prints.
package struct RemoteGcOutput: CommandOutput, Hashable {
  var remote: String
  var dryRun: Bool
  var snapshots: Int
  var freedPacks: Int
  var freedBytes: UInt64
  var rescuedPacks: Int
  var waitingPacks: Int
  var voidManifests: Int
  var deletedRuns: Int
  var durationSeconds: Double
  var warnings: [String]

  enum CodingKeys: String, CodingKey {
    case remote
    case dryRun = "dry_run"
    case snapshots
    case freedPacks = "freed_packs"
    case freedBytes = "freed_bytes"
    case rescuedPacks = "rescued_packs"
    case waitingPacks = "waiting_packs"
    case voidManifests = "void_manifests"
    case deletedRuns = "deleted_runs"
    case durationSeconds = "duration_seconds"
    case warnings
  }

  /// What is printed of `result`.
  package init(_ remote: RemoteRow, _ result: RemoteCollectResult, warnings: [String]) {
    self.remote = remote.name
    dryRun = result.dryRun
    snapshots = result.snapshotCount
    freedPacks = result.deletedPackCount
    freedBytes = result.deletedByteCount
    rescuedPacks = result.rescuedPackCount
    waitingPacks = result.waitingPackCount
    voidManifests = result.voidManifestCount
    deletedRuns = result.deletedRunCount
    durationSeconds = HumanReadable.milliseconds(result.durationSeconds)
    self.warnings = warnings
  }

  package var text: String {
    var fields = FieldList()
    fields.add("Snapshots", "\(snapshots)")
    if waitingPacks > 0 {
      fields.add("Waiting", "\(HumanReadable.count(waitingPacks, "pack")), which pushes may use")
    }
    if rescuedPacks > 0 { fields.add("Used again", HumanReadable.count(rescuedPacks, "pack")) }
    return
      "\(dryRun ? "Would free" : "Freed") \(HumanReadable.bytes(freedBytes)) in "
      + "\(HumanReadable.count(freedPacks, "pack")) of \(printable(remote))\n" + fields.text
  }
}

/// What `remote adopt` prints.
package struct RemoteAdoptOutput: CommandOutput, Hashable {
  var remote: String
  var adopted: Int
  var problems: [String]
  var warnings: [String]

  package var exitCode: Int32 { problems.isEmpty ? SysExit.ok : SysExit.dataError }

  package var text: String {
    "Adopted \(adopted == 1 ? "1 snapshot" : "\(adopted) snapshots") of \(printable(remote))\n"
      + problems.map { "  \(printable($0))\n" }.joined()
  }
}

/// What `remote stats` prints.
package struct RemoteStatsOutput: CommandOutput, Hashable {
  var remote: String
  var snapshots: Int
  var vms: Int
  var ramBytes: UInt64
  var storedPages: UInt64
  var packs: Int
  var packBytes: UInt64
  var neededPacks: Int
  var indexRuns: Int
  var manifestBytes: UInt64
  var sessions: Int
  var warnings: [String]

  enum CodingKeys: String, CodingKey {
    case remote, snapshots, vms
    case ramBytes = "ram_bytes"
    case storedPages = "stored_pages"
    case packs
    case packBytes = "pack_bytes"
    case neededPacks = "needed_packs"
    case indexRuns = "index_runs"
    case manifestBytes = "manifest_bytes"
    case sessions, warnings
  }

  /// What is printed of `result`.
  package init(_ remote: RemoteRow, _ result: RemoteStatistics, warnings: [String]) {
    self.remote = remote.name
    snapshots = result.snapshotCount
    vms = result.vmCount
    ramBytes = result.ramByteCount
    storedPages = result.storedPageCount
    packs = result.packCount
    packBytes = result.packByteCount
    neededPacks = result.neededPackCount
    indexRuns = result.indexRunCount
    manifestBytes = result.manifestByteCount
    sessions = result.sessionCount
    self.warnings = warnings
  }

  package var text: String {
    var fields = FieldList()
    fields.add("Snapshots", "\(snapshots) of \(HumanReadable.count(vms, "VM"))")
    fields.add(
      "RAM",
      "\(HumanReadable.bytes(ramBytes)), \(HumanReadable.pages(storedPages)) not zero"
    )
    fields.add("Packs", "\(packs) with \(HumanReadable.bytes(packBytes)), \(neededPacks) in use")
    fields.add("Manifests", HumanReadable.bytes(manifestBytes))
    fields.add("Index runs", "\(indexRuns)")
    fields.add("Pushes", sessions == 0 ? "none" : "\(sessions) under way, or killed")
    return fields.text
  }
}
