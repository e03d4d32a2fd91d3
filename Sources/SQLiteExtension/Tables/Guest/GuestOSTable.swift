import VMCheckpointCore

extension TableFunction {
  /// `guest_os(snapshot)`: one row, whatever the guest is.
  static var guestOS: TableFunction {
    TableFunction(
      help: FunctionHelp(
        "guest_os",
        ["snapshot"],
        kind: .table,
        returns: "rows",
        "the guest's kernel: release, host name, command line, and what keeps other tables from being read"
      ),
      columns: GuestFacts.columns.map(\.declaration),
      hiddenColumns: ["note TEXT", "search TEXT"],
      typicalRowCount: 1
    ) { connection, query in
      let snapshot = try connection.snapshot(SnapshotSelector(query.arguments[0]!))
      let guest = try connection.guests.guest(snapshot)
      let search = guest.system.wasKnown ? "known" : "whole RAM"
      return GuestCursor(
        rows: [try guest.system.facts(guest.ram)],
        values: GuestFacts.columns.map(\.value) + [{ .string($0.note) }, { _ in .text(search) }]
      )
    }
  }
}

extension GuestFacts {
  fileprivate static var columns: [GuestColumn<GuestFacts>] {
    [
      GuestColumn("release TEXT") { .string($0.release) },
      GuestColumn("version TEXT") { .string($0.version) },
      GuestColumn("machine TEXT") { .string($0.machine) },
      GuestColumn("hostname TEXT") { .string($0.hostName) },
      GuestColumn("cmdline TEXT") { .string($0.commandLine) },
      GuestColumn("boot_time INTEGER") { .number($0.bootSeconds) },
      GuestColumn("kaslr INTEGER") { .bits($0.kaslrOffset) },
      GuestColumn("phys_base INTEGER") { .bits($0.physicalBase) },
      GuestColumn("btf_sha256 TEXT") { .string($0.typesSHA256) },
      GuestColumn("missing TEXT") { .string($0.missing) },
    ]
  }
}
