package import VMCheckpoint

/// What `status` prints.
package struct StatusOutput: CommandOutput, Hashable {
  struct VM: Codable, Hashable, Sendable {
    var vm: String
    var snapshots: UInt64
    var lastSnapshot: String
    var lastCompletedAt: String
    var lastAgeSeconds: Double
    var aheadSnapshots: UInt64
    @Nullable var furthestAheadSnapshot: String?
    var furthestAheadSeconds: Double
    var lastRAMBytes: UInt64
    var lastNewStoredBytes: UInt64
    var newStoredBytes: UInt64
    var weekNewStoredBytes: UInt64
    var unverifiedSnapshots: UInt64
    @Nullable var unverifiedSince: String?
    @Nullable var verifiedAt: String?

    enum CodingKeys: String, CodingKey {
      case vm
      case snapshots
      case lastSnapshot = "last_snapshot"
      case lastCompletedAt = "last_completed_at"
      case lastAgeSeconds = "last_age_seconds"
      case aheadSnapshots = "ahead_snapshots"
      case furthestAheadSnapshot = "furthest_ahead_snapshot"
      case furthestAheadSeconds = "furthest_ahead_seconds"
      case lastRAMBytes = "last_ram_bytes"
      case lastNewStoredBytes = "last_new_stored_bytes"
      case newStoredBytes = "new_stored_bytes"
      case weekNewStoredBytes = "week_new_stored_bytes"
      case unverifiedSnapshots = "unverified_snapshots"
      case unverifiedSince = "unverified_since"
      case verifiedAt = "verified_at"
    }
  }

  var path: String
  var time: String
  var vms: [VM]
  var snapshots: UInt64
  var unfinishedSnapshots: UInt64
  var heldLeases: UInt64
  var lostLeases: UInt64
  var fileBytes: UInt64
  var reclaimableBytes: UInt64
  var reserveBytes: UInt64
  var fileSystemFreeBytes: UInt64
  var fileSystemBytes: UInt64
  @Nullable var verifiedAt: String?
  var problems: UInt64

  /// The text for monitoring systems, in place of that for people; not in JSON.
  private var metrics: String?

  enum CodingKeys: String, CodingKey {
    case path
    case time
    case vms
    case snapshots
    case unfinishedSnapshots = "unfinished_snapshots"
    case heldLeases = "held_leases"
    case lostLeases = "lost_leases"
    case fileBytes = "file_bytes"
    case reclaimableBytes = "reclaimable_bytes"
    case reserveBytes = "reserve_bytes"
    case fileSystemFreeBytes = "file_system_free_bytes"
    case fileSystemBytes = "file_system_bytes"
    case verifiedAt = "verified_at"
    case problems
  }

  /// What is printed of `status`.
  package init(_ status: StoreStatus, asOpenMetrics: Bool = false) {
    path = status.path
    time = status.time
    vms = status.vms.map { vm in
      VM(
        vm: vm.name,
        snapshots: vm.snapshotCount,
        lastSnapshot: vm.lastSnapshot,
        lastCompletedAt: vm.lastCompletedAt,
        lastAgeSeconds: HumanReadable.milliseconds(vm.lastAgeSeconds),
        aheadSnapshots: vm.aheadSnapshotCount,
        furthestAheadSnapshot: vm.furthestAheadSnapshot,
        furthestAheadSeconds: HumanReadable.milliseconds(vm.furthestAheadSeconds),
        lastRAMBytes: vm.lastRAMByteCount,
        lastNewStoredBytes: vm.lastNewStoredByteCount,
        newStoredBytes: vm.newStoredByteCount,
        weekNewStoredBytes: vm.weekNewStoredByteCount,
        unverifiedSnapshots: vm.unverifiedSnapshotCount,
        unverifiedSince: vm.unverifiedSince,
        verifiedAt: vm.verifiedAt
      )
    }
    snapshots = status.snapshotCount
    unfinishedSnapshots = status.unfinishedSnapshotCount
    heldLeases = status.heldLeaseCount
    lostLeases = status.lostLeaseCount
    fileBytes = status.fileByteCount
    reclaimableBytes = status.reclaimableByteCount
    reserveBytes = status.reserveByteCount
    fileSystemFreeBytes = status.fileSystemFreeByteCount
    fileSystemBytes = status.fileSystemByteCount
    verifiedAt = status.verifiedAt
    problems = status.problemCount
    if asOpenMetrics { metrics = StatusMetrics.text(status) }
  }

  package var text: String {
    if let metrics { return metrics }
    var table = TextTable([
      ("VM", .left), ("SNAPSHOTS", .right), ("LAST", .left), ("AGE", .right), ("ADDED", .right),
      ("7 DAYS", .right), ("ALL", .right), ("VERIFIED", .left),
    ])
    table.rows = vms.map { vm in
      [
        vm.vm, "\(vm.snapshots)", vm.lastSnapshot, HumanReadable.age(vm.lastAgeSeconds),
        HumanReadable.bytes(vm.lastNewStoredBytes), HumanReadable.bytes(vm.weekNewStoredBytes),
        HumanReadable.bytes(vm.newStoredBytes),
        vm.verifiedAt ?? "not \(vm.unverifiedSnapshots) of \(vm.snapshots)",
      ]
    }
    var fields = FieldList()
    fields.add("File", HumanReadable.bytes(fileBytes))
    fields.add("Free in file", HumanReadable.bytes(reclaimableBytes))
    fields.add("Reserve", HumanReadable.bytes(reserveBytes))
    fields.add(
      "Free on disk",
      "\(HumanReadable.bytes(fileSystemFreeBytes)) of \(HumanReadable.bytes(fileSystemBytes))"
    )
    let unfinished = unfinishedSnapshots > 0 ? ", \(unfinishedSnapshots) unfinished" : ""
    fields.add("Snapshots", "\(snapshots) of \(HumanReadable.count(vms.count, "VM"))\(unfinished)")
    if let furthest = vms.filter({ $0.aheadSnapshots > 0 })
      .max(by: { $0.furthestAheadSeconds < $1.furthestAheadSeconds }),
      let name = furthest.furthestAheadSnapshot
    {
      let count = HumanReadable.count(vms.reduce(0) { $0 + $1.aheadSnapshots }, "snapshot")
      let age = HumanReadable.age(furthest.furthestAheadSeconds)
      fields.add("DATED AHEAD", "\(count), \(printable(name)) by \(age)")
    }
    let lost = lostLeases > 0 ? ", \(lostLeases) without a server" : ""
    fields.add("Leases", "\(heldLeases + lostLeases)\(lost)")
    fields.add("Verified", verifiedAt ?? "not all of it")
    if problems > 0 { fields.add("DAMAGED", HumanReadable.count(problems, "problem")) }
    return "\(printable(path))\n" + fields.text + (vms.isEmpty ? "" : "\n" + table.text())
  }
}
