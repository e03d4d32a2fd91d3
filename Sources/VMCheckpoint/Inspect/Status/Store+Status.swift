import GRDB
import Glibc

extension Store {
  /// The days over which growth is added up.
  private static let growthDays = 7

  /// What somebody who looks after the store wants to know every day. Reads rows of snapshots, and no pages.
  ///
  /// - Throws: ``VMCheckpointError``.
  public func status() throws(VMCheckpointError) -> StoreStatus {
    try read { database in
      let leases = try LeaseTable(database, location).all()
      let verifications = try VerificationTable(database).summary()
      func number(_ sql: String) throws -> UInt64 {
        UInt64(clamping: try Int64.fetchOne(database, sql: sql) ?? 0)
      }
      let vms = try vms(database, verifications)
      var disk = statvfs()
      let isDiskKnown = statvfs(location.directory, &disk) == 0
      func byteCount(_ blocks: fsblkcnt_t) -> UInt64 {
        let (bytes, overflows) = UInt64(blocks).multipliedReportingOverflow(
          by: UInt64(disk.f_frsize)
        )
        return !isDiskKnown ? 0 : overflows ? .max : bytes
      }
      return StoreStatus(
        path: path,
        time: UTCTime.now,
        vms: vms,
        snapshotCount: vms.reduce(0) { $0 + $1.snapshotCount },
        unfinishedSnapshotCount: try number(
          "SELECT count(*) FROM snapshot WHERE state = 'writing'"
        ),
        heldLeaseCount: UInt64(leases.count(where: \.isHeld)),
        lostLeaseCount: UInt64(leases.count { !$0.isHeld }),
        fileByteCount: try number(
          "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        ),
        reclaimableByteCount: try number(
          "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size"
        ),
        reserveByteCount: StoreReserve(location).byteCount,
        fileSystemFreeByteCount: byteCount(disk.f_bavail),
        fileSystemByteCount: byteCount(disk.f_blocks),
        verifiedAt: verifications.storeTime,
        problemCount: verifications.problemCount
      )
    }
  }

  private func vms(
    _ database: Database,
    _ verifications: VerificationTable.Summary
  ) throws -> [StoreStatus.VM] {
    // SQLite reads the times: it knows the calendar.
    let rows = try Row.fetchCursor(
      database,
      sql: """
        SELECT id, vm, name, completed_at, ram_bytes, new_stored_bytes,
               (julianday('now') - julianday(completed_at)) * 86400.0 AS age,
               completed_at >= strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-\(Self.growthDays) days') AS is_new
          FROM snapshot WHERE state = 'complete' ORDER BY id
        """
    )
    let future = FutureTimes.now
    var vms: [String: StoreStatus.VM] = [:]
    var oldestProofs: [String: String] = [:]
    // The greatest time so far of those that are not dated ahead.
    var newestTimes: [String: String] = [:]
    while let row = try rows.next() {
      func count(_ column: String) throws -> UInt64 {
        UInt64(clamping: try row.value(column) as Int64)
      }
      let (name, completedAt): (String, String) = (
        try row.value("vm"), try row.value("completed_at")
      )
      let new = try count("new_stored_bytes")
      let snapshot: String = try row.value("name")
      let secondsAhead = future.secondsAhead(of: completedAt)
      var vm = vms[name] ?? Self.unknownVM(name)
      vm.snapshotCount += 1
      // One that is older came later, by a pull. A time that is later than now says nothing, and arrival decides.
      if secondsAhead != nil || completedAt >= newestTimes[name] ?? "" {
        if secondsAhead == nil { newestTimes[name] = completedAt }
        vm.lastSnapshot = snapshot
        vm.lastCompletedAt = completedAt
        vm.lastAgeSeconds = max(0, try row.value("age") as Double? ?? 0)
        vm.lastRAMByteCount = try count("ram_bytes")
        vm.lastNewStoredByteCount = new
      }
      // The numbers in a damaged row may not fit; they are only reported.
      vm.newStoredByteCount &+= new
      if let seconds = secondsAhead {
        vm.aheadSnapshotCount += 1
        if seconds > vm.furthestAheadSeconds {
          vm.furthestAheadSnapshot = snapshot
          vm.furthestAheadSeconds = seconds
        }
      } else if try row.value("is_new") as Bool {
        vm.weekNewStoredByteCount &+= new
      }
      if let time = verifications.time(of: try row.value("id")) {
        oldestProofs[name] = min(oldestProofs[name] ?? time, time)
      } else {
        vm.unverifiedSnapshotCount += 1
        vm.unverifiedSince = min(vm.unverifiedSince ?? completedAt, completedAt)
      }
      vms[name] = vm
    }
    for (name, time) in oldestProofs where vms[name]?.unverifiedSnapshotCount == 0 {
      vms[name]?.verifiedAt = time
    }
    return vms.values.sorted { $0.name < $1.name }
  }

  private static func unknownVM(_ name: String) -> StoreStatus.VM {
    StoreStatus.VM(
      name: name,
      snapshotCount: 0,
      lastSnapshot: "",
      lastCompletedAt: "",
      lastAgeSeconds: 0,
      aheadSnapshotCount: 0,
      furthestAheadSeconds: 0,
      lastRAMByteCount: 0,
      lastNewStoredByteCount: 0,
      newStoredByteCount: 0,
      weekNewStoredByteCount: 0,
      unverifiedSnapshotCount: 0
    )
  }
}
