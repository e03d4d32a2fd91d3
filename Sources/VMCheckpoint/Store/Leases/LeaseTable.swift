import GRDB
import SystemPackage

/// The rows of the table `lease`, and what their locks say.
struct LeaseTable {
  /// More leases than this are not read: a store may be hostile.
  private static let maximumCount = 4096

  private let database: Database
  private let location: StoreLocation

  init(_ database: Database, _ location: StoreLocation) {
    self.database = database
    self.location = location
  }

  /// Whether the store has the table. Its name decides, whatever the row says of readers.
  private var isThere: Bool {
    get throws {
      try StoreFormat.features(of: database).contains { $0.name == StoreFeature.leases.name }
    }
  }

  /// The last lease of each snapshot that has one, by the snapshot's name.
  func idsByName() throws -> [String: Int64] {
    Dictionary(try all().map { ($0.snapshot, $0.id) }) { _, last in last }
  }

  /// All leases, in the order in which they began.
  func all() throws -> [Lease] {
    guard try isThere else { return [] }
    let rows = try Row.fetchAll(
      database,
      sql: """
        SELECT l.id, s.name, l.door, l.target, l.holder, l.begun_at, l.lost_at
          FROM lease l JOIN snapshot s ON s.id = l.snapshot_id
         WHERE s.state = 'complete' ORDER BY l.id LIMIT \(Self.maximumCount)
        """
    )
    guard !rows.isEmpty else { return [] }
    // A store that cannot be locked here may be served elsewhere.
    let descriptor = try? LeaseLock.open(at: location, .shared)
    defer { try? descriptor?.close() }
    return try rows.map { row in
      let id: Int64 = try row.value("id")
      return Lease(
        id: id,
        snapshot: try row.value("name"),
        door: try row.value("door"),
        target: try row.value("target"),
        holder: try row.value("holder"),
        begunAt: try row.value("begun_at"),
        lostAt: try row.value("lost_at"),
        isHeld: descriptor.map { LeaseLock.isHeld(id, $0) } ?? true
      )
    }
  }

  /// Notes which leases have lost their holders, and removes those that nobody has held for seven days.
  ///
  /// - Returns: The leases that are left.
  func refresh() throws -> [Lease] {
    guard try !all().isEmpty else { return [] }
    try database.inTransaction(.immediate) {
      for lease in try all() where lease.isHeld == (lease.lostAt != nil) {
        try database.execute(
          sql: "UPDATE lease SET lost_at = ? WHERE id = ?",
          arguments: [lease.isHeld ? nil : UTCTime.now, lease.id]
        )
      }
      try database.execute(
        sql: """
          DELETE FROM lease
           WHERE lost_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-\(Lease.graceDays) days')
          """
      )
      return .commit
    }
    return try all()
  }

  /// Removes all leases: for a copy of a store, which serves nobody.
  func removeAll() throws {
    if try isThere { try database.execute(sql: "DELETE FROM lease") }
  }

  /// - Throws: ``VMCheckpointError`` with the code `locked` when one of `snapshots` has a lease.
  func requireNone(for snapshots: [SnapshotRow]) throws {
    let names = Set(snapshots.map(\.name))
    if let lease = try all().first(where: { names.contains($0.snapshot) }) { throw lease.refusal }
  }
}

extension Store {
  /// Who serves snapshots of this store, in the order in which they began.
  ///
  /// - Throws: ``VMCheckpointError``.
  public func leases() throws(VMCheckpointError) -> [Lease] {
    try read { try LeaseTable($0, location).all() }
  }

  /// Removes a lease that nobody holds: its snapshot may be deleted then, whatever VMs wait for its pages.
  ///
  /// - Returns: The lease that was removed.
  /// - Throws: ``VMCheckpointError``: `notFound`; `locked` when somebody holds it.
  public func dropLease(_ id: Int64) throws(VMCheckpointError) -> Lease {
    try requireWritable()
    return try writeOnFullDisk { database in
      guard let lease = try LeaseTable(database, location).all().first(where: { $0.id == id })
      else {
        throw VMCheckpointError(
          .notFound,
          "there is no lease \(id)",
          hint: "see which there are with: vmckpt lease list"
        )
      }
      guard !lease.isHeld else {
        throw VMCheckpointError(
          .locked,
          "\(lease.title) is held by a server that runs",
          hint: "end that server, which drops it"
        )
      }
      try database.execute(sql: "DELETE FROM lease WHERE id = ?", arguments: [id])
      return lease
    }
  }
}
