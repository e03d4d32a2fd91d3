import VMCheckpointCore

extension TableFunction {
  /// `guest_mapping(snapshot)`: a row for each mapping of each process.
  static var guestMapping: TableFunction {
    guest(
      "guest_mapping",
      "a row for each mapping of each of the guest's processes, as /proc/PID/maps shows them",
      typicalRowCount: 8192,
      columns: GuestMapping.columns,
      note: { $0.note },
      read: { kernel, pids in try kernel.mappings(pids: pids) }
    )
  }
}

extension GuestMapping {
  fileprivate static var columns: [GuestColumn<GuestMapping>] {
    [
      GuestColumn("pid INTEGER") { .number($0.pid) },
      GuestColumn("start INTEGER") { .bits($0.start) },
      GuestColumn("\"end\" INTEGER") { .bits($0.end) },
      GuestColumn("perm TEXT") { .string($0.permissions) },
      GuestColumn("pgoff INTEGER") { .bits($0.pageOffset) },
      GuestColumn("path TEXT") { .string($0.path) },
    ]
  }
}
