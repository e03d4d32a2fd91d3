import VMCheckpointCore

extension TableFunction {
  /// `guest_mount(snapshot)`: a row for each mount in each mount namespace.
  static var guestMount: TableFunction {
    guest(
      "guest_mount",
      "a row for each mount in each of the guest's mount namespaces",
      isKeyed: false,
      columns: GuestMount.columns,
      note: { $0.note },
      read: { kernel, _ in try kernel.mounts() }
    )
  }
}

extension GuestMount {
  fileprivate static var columns: [GuestColumn<GuestMount>] {
    [
      GuestColumn("mntns INTEGER") { .bits($0.namespace) },
      GuestColumn("id INTEGER") { .number($0.id) },
      GuestColumn("parent INTEGER") { .number($0.parent) },
      GuestColumn("dev TEXT") { .string($0.device) },
      GuestColumn("root TEXT") { .string($0.root) },
      GuestColumn("mountpoint TEXT") { .string($0.mountPoint) },
      GuestColumn("source TEXT") { .string($0.source) },
      GuestColumn("type TEXT") { .string($0.type) },
      GuestColumn("ro INTEGER") { .number($0.isReadOnly.map { $0 ? 1 : 0 }) },
      GuestColumn("reachable INTEGER") { .number($0.isReachable.map { $0 ? 1 : 0 }) },
    ]
  }
}
