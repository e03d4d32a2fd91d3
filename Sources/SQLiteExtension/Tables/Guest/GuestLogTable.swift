import VMCheckpointCore

extension TableFunction {
  /// `guest_dmesg(snapshot)`: a row for each record of the kernel's log.
  static var guestLog: TableFunction {
    guest(
      "guest_dmesg",
      "a row for each record of the guest kernel's log, as dmesg shows them",
      isKeyed: false,
      typicalRowCount: 512,
      columns: GuestLogRecord.columns,
      note: { $0.note },
      read: { kernel, _ in try kernel.logRecords() }
    )
  }
}

extension GuestLogRecord {
  fileprivate static var columns: [GuestColumn<GuestLogRecord>] {
    [
      GuestColumn("seq INTEGER") { .bits($0.sequence) },
      GuestColumn("ts_ns INTEGER") { .bits($0.nanoseconds) },
      GuestColumn("level INTEGER") { .bits($0.level) },
      GuestColumn("facility INTEGER") { .bits($0.facility) },
      GuestColumn("text TEXT") { .string($0.text) },
    ]
  }
}
