import VMCheckpointCore

extension TableFunction {
  /// `guest_module(snapshot)`: a row for each loaded module.
  static var guestModule: TableFunction {
    guest(
      "guest_module",
      "a row for each module that the guest's kernel has loaded, as lsmod shows them",
      isKeyed: false,
      typicalRowCount: 64,
      columns: GuestModule.columns,
      note: { $0.note },
      read: { kernel, _ in try kernel.modules() }
    )
  }
}

extension GuestModule {
  fileprivate static var columns: [GuestColumn<GuestModule>] {
    [
      GuestColumn("name TEXT") { .string($0.name) },
      GuestColumn("base INTEGER") { .bits($0.base) },
      GuestColumn("size INTEGER") { .bits($0.byteCount) },
      GuestColumn("refcnt INTEGER") { .number($0.referenceCount) },
      GuestColumn("used_by TEXT") { .string($0.users?.joined(separator: ",")) },
      GuestColumn("state TEXT") { .string($0.state) },
      GuestColumn("taints TEXT") { .string($0.taints) },
    ]
  }
}
