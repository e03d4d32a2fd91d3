import VMCheckpointCore

extension TableFunction {
  /// `guest_thread(snapshot)`: a row for each thread, as `ps -eL` shows them.
  static var guestThread: TableFunction {
    guest(
      "guest_thread",
      "a row for each thread of the guest's processes, the first ones too",
      columns: GuestProcess.threadColumns,
      note: { $0.note },
      read: { kernel, pids in try kernel.threads(pids: pids) }
    )
  }
}

extension GuestProcess {
  fileprivate static var threadColumns: [GuestColumn<GuestProcess>] {
    [
      GuestColumn("pid INTEGER") { .number($0.pid) },
      GuestColumn("tgid INTEGER") { .number($0.tgid) },
      GuestColumn("comm TEXT") { .string($0.comm) },
      GuestColumn("state TEXT") { .string($0.state) },
      GuestColumn("uid INTEGER") { .number($0.uid.map(Int64.init)) },
      GuestColumn("euid INTEGER") { .number($0.euid.map(Int64.init)) },
      GuestColumn("start_ns INTEGER") { .bits($0.startNanoseconds) },
      GuestColumn("nice INTEGER") { .number($0.nice) },
      GuestColumn("kthread INTEGER") { .number($0.isKernelThread.map { $0 ? 1 : 0 }) },
      GuestColumn("nspid TEXT") { .string($0.namespacePIDs) },
      GuestColumn("task INTEGER") { .bits($0.task) },
    ]
  }

  /// Its number in each of its PID namespaces.
  var namespacePIDs: String? {
    namespaces.pids.isEmpty ? nil : namespaces.pids.map(String.init).joined(separator: ",")
  }
}
