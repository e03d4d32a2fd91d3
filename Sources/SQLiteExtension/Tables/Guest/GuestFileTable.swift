import VMCheckpointCore

extension TableFunction {
  /// `guest_file(snapshot)`: a row for each open file of each process.
  static var guestFile: TableFunction {
    guest(
      "guest_file",
      "a row for each open file of each of the guest's processes, as lsof shows them",
      typicalRowCount: 2048,
      columns: GuestFile.columns,
      note: { $0.note },
      read: { kernel, pids in try kernel.openFiles(pids: pids) }
    )
  }
}

extension GuestFile {
  fileprivate static var columns: [GuestColumn<GuestFile>] {
    [
      GuestColumn("pid INTEGER") { .number($0.pid) },
      GuestColumn("fd INTEGER") { .number($0.descriptor) },
      GuestColumn("path TEXT") { .string($0.path) },
      GuestColumn("flags INTEGER") { .bits($0.flags) },
      GuestColumn("pos INTEGER") { .number($0.position) },
      GuestColumn("ino INTEGER") { .bits($0.inode) },
      GuestColumn("mode INTEGER") { .bits($0.mode) },
      GuestColumn("size INTEGER") { .number($0.byteCount) },
    ]
  }
}
