import VMCheckpointCore

extension TableFunction {
  /// `guest_netdev(snapshot)`: a row for each network interface in each network namespace.
  static var guestNetworkDevice: TableFunction {
    guest(
      "guest_netdev",
      "a row for each network interface in each of the guest's network namespaces, with its addresses",
      isKeyed: false,
      typicalRowCount: 16,
      columns: GuestNetworkDevice.columns,
      note: { $0.note },
      read: { kernel, _ in try kernel.networkDevices() }
    )
  }
}

extension GuestNetworkDevice {
  fileprivate static var columns: [GuestColumn<GuestNetworkDevice>] {
    [
      GuestColumn("netns INTEGER") { .bits($0.namespace) },
      GuestColumn("name TEXT") { .string($0.name) },
      GuestColumn("ifindex INTEGER") { .number($0.index) },
      GuestColumn("mac TEXT") { .string($0.mac) },
      GuestColumn("mtu INTEGER") { .bits($0.mtu) },
      GuestColumn("flags INTEGER") { .bits($0.flags) },
      GuestColumn("addresses TEXT") { .string($0.addresses?.joined(separator: ",")) },
    ]
  }
}
