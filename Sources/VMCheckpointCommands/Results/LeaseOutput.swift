package import VMCheckpoint

/// A lease as `lease list` and `lease drop` print it.
package struct LeaseOutput: Codable, Hashable, Sendable {
  var id: Int64
  var snapshot: String
  var door: String
  var target: String
  var holder: String
  var begunAt: String
  @Nullable var lostAt: String?
  var held: Bool

  enum CodingKeys: String, CodingKey {
    case id, snapshot, door, target, holder
    case begunAt = "begun_at"
    case lostAt = "lost_at"
    case held
  }

  /// What is printed of `lease`.
  package init(_ lease: Lease) {
    id = lease.id
    snapshot = lease.snapshot
    door = lease.door
    target = lease.target
    holder = lease.holder
    begunAt = lease.begunAt
    lostAt = lease.lostAt
    held = lease.isHeld
  }
}

/// What `lease` prints.
package struct LeaseCommandOutput: CommandOutput, Hashable {
  /// `null` for `list`.
  @Nullable var dropped: LeaseOutput?
  /// All that there are now.
  var leases: [LeaseOutput]

  /// What is printed of a dropped lease and those that are left.
  package init(dropped: Lease?, leases: [Lease]) {
    self.dropped = dropped.map(LeaseOutput.init)
    self.leases = leases.map(LeaseOutput.init)
  }

  package var notice: String? { dropped == nil && leases.isEmpty ? "there are no leases" : nil }

  package var text: String {
    if let dropped { return "Dropped lease \(dropped.id) on \(printable(dropped.snapshot))\n" }
    guard !leases.isEmpty else { return "" }
    return TextTable(
      [
        ("ID", .right), ("SNAPSHOT", .left), ("DOOR", .left), ("TARGET", .left), ("BEGUN", .left),
        ("SERVER", .left),
      ],
      rows: leases.map { lease in
        [
          "\(lease.id)", lease.snapshot, lease.door, lease.target, lease.begunAt,
          lease.held ? "runs" : "gone",
        ]
      }
    ).text()
  }
}
