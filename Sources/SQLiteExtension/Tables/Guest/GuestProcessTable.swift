import VMCheckpointCore

extension TableFunction {
  /// `guest_process(snapshot)`: a row for each process, as `ps -e` shows them.
  static var guestProcess: TableFunction {
    guest(
      "guest_process",
      "a row for each process of the guest: who, since when, doing what, how large",
      columns: GuestProcess.columns,
      note: { $0.note },
      read: { kernel, pids in try kernel.processes(pids: pids) }
    )
  }
}

extension GuestProcess {
  fileprivate static var columns: [GuestColumn<GuestProcess>] {
    [
      GuestColumn("pid INTEGER") { .number($0.pid) },
      GuestColumn("tgid INTEGER") { .number($0.tgid) },
      GuestColumn("ppid INTEGER") { .number($0.ppid) },
      GuestColumn("comm TEXT") { .string($0.comm) },
      GuestColumn("state TEXT") { .string($0.state) },
      GuestColumn("uid INTEGER") { .number($0.uid.map(Int64.init)) },
      GuestColumn("euid INTEGER") { .number($0.euid.map(Int64.init)) },
      GuestColumn("gid INTEGER") { .number($0.gid.map(Int64.init)) },
      GuestColumn("egid INTEGER") { .number($0.egid.map(Int64.init)) },
      GuestColumn("start_ns INTEGER") { .bits($0.startNanoseconds) },
      GuestColumn("nice INTEGER") { .number($0.nice) },
      GuestColumn("kthread INTEGER") { .number($0.isKernelThread.map { $0 ? 1 : 0 }) },
      GuestColumn("cmdline TEXT") { .string($0.commandLine) },
      GuestColumn("exe TEXT") { .string($0.executable) },
      GuestColumn("cwd TEXT") { .string($0.workingDirectory) },
      GuestColumn("rss_pages INTEGER") { .number($0.residentPageCount) },
      GuestColumn("vsize_pages INTEGER") { .bits($0.virtualPageCount) },
      GuestColumn("nspid TEXT") { .string($0.namespacePIDs) },
      GuestColumn("pidns INTEGER") { .bits($0.namespaces.pid) },
      GuestColumn("mntns INTEGER") { .bits($0.namespaces.mount) },
      GuestColumn("netns INTEGER") { .bits($0.namespaces.network) },
      GuestColumn("task INTEGER") { .bits($0.task) },
      GuestColumn("mm INTEGER") { .bits($0.mm) },
    ]
  }
}
