import VMCheckpointCore

extension TableFunction {
  /// `guest_socket(snapshot)`: a row for each descriptor of a socket, and for each socket without one.
  static var guestSocket: TableFunction {
    guest(
      "guest_socket",
      "a row for each socket and who holds it; with pid NULL, those that no process holds",
      keyColumn: 12,
      typicalRowCount: 1024,
      columns: GuestSocket.columns,
      note: { $0.note },
      read: { kernel, pids in try kernel.sockets(pids: pids) }
    )
  }
}

extension GuestSocket {
  fileprivate static var columns: [GuestColumn<GuestSocket>] {
    [
      GuestColumn("family INTEGER") { .bits($0.family) },
      GuestColumn("type INTEGER") { .bits($0.type) },
      GuestColumn("protocol INTEGER") { .bits($0.protocol) },
      GuestColumn("state TEXT") { .string($0.state) },
      GuestColumn("laddr TEXT") { .string($0.localAddress) },
      GuestColumn("lport INTEGER") { .bits($0.localPort) },
      GuestColumn("raddr TEXT") { .string($0.remoteAddress) },
      GuestColumn("rport INTEGER") { .bits($0.remotePort) },
      GuestColumn("path TEXT") { .string($0.path) },
      GuestColumn("ino INTEGER") { .bits($0.inode) },
      GuestColumn("uid INTEGER") { .bits($0.uid) },
      GuestColumn("netns INTEGER") { .bits($0.networkNamespace) },
      GuestColumn("pid INTEGER") { .number($0.pid) },
      GuestColumn("fd INTEGER") { .number($0.descriptor) },
    ]
  }
}
