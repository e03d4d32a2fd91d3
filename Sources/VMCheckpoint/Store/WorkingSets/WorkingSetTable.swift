import GRDB

/// The rows of the tables `working_set` and `working_set_run`.
struct WorkingSetTable {
  /// How far up a snapshot's line of descent a recording is looked for.
  private static let maximumDepth = 64

  private let database: Database

  init(_ database: Database) { self.database = database }

  private var isThere: Bool {
    get throws {
      try StoreFormat.features(of: database).contains {
        $0.name == StoreFeature.workingSets.name
      }
    }
  }

  /// What describes the recording that a start from `snapshot` plays: its own, else its nearest ancestor's.
  func summary(for snapshot: SnapshotRow) throws -> WorkingSet.Summary? {
    try nearest(snapshot).map { try summary(of: $0) }
  }

  /// The recording that a start from `snapshot` plays: its own, else its nearest ancestor's.
  ///
  /// - Complexity: O(*n*) in the number of its runs.
  func workingSet(for snapshot: SnapshotRow) throws -> WorkingSet? {
    guard let owner = try nearest(snapshot) else { return nil }
    let rows = try Row.fetchCursor(
      database,
      sql: """
        SELECT first_pfn, page_count FROM working_set_run
         WHERE snapshot_id = ? ORDER BY position LIMIT \(WorkingSet.maximumRunCount)
        """,
      arguments: [owner.id]
    )
    var runs: [Range<UInt64>] = []
    var pageCount: UInt64 = 0
    while let row = try rows.next() {
      let first = UInt64(clamping: try row.value(at: 0) as Int64)
      let count = UInt64(clamping: try row.value(at: 1) as Int64)
      let (end, overflows) = first.addingReportingOverflow(count)
      pageCount = pageCount.addingReportingOverflow(count).partialValue
      guard !overflows, count > 0, end <= PFN.max.rawValue + 1,
        count <= WorkingSet.maximumPageCount, pageCount <= WorkingSet.maximumPageCount
      else {
        throw VMCheckpointError.corrupt(
          "\(owner.title) is damaged: its working set has pages that cannot be"
        )
      }
      runs.append(first..<end)
    }
    return WorkingSet(summary: try summary(of: owner), runs: runs)
  }

  /// The recording that `snapshot` has to be given elsewhere in place of the one that it has there.
  ///
  /// - Parameter known: When the one there was recorded; `nil`: there is none.
  /// - Returns: `nil` when that is as new, or what is here is only an ancestor's.
  func newer(than known: String?, for snapshot: SnapshotRow) throws -> WorkingSet? {
    guard let set = try workingSet(for: snapshot) else { return nil }
    guard let known else { return set }
    return try hasOwn(snapshot) && set.summary.recordedAt > known ? set : nil
  }

  /// Whether `snapshot` has a recording of its own.
  func hasOwn(_ snapshot: SnapshotRow) throws -> Bool {
    try isThere
      && Bool.fetchOne(
        database,
        sql: "SELECT EXISTS (SELECT 1 FROM working_set WHERE snapshot_id = ?)",
        arguments: [snapshot.id]
      ) == true
  }

  /// When each recording of the store was stored first, by the snapshot's row.
  func recordedTimes() throws -> [Int64: String] {
    guard try isThere else { return [:] }
    let rows = try Row.fetchAll(
      database,
      sql: "SELECT snapshot_id, recorded_at FROM working_set"
    )
    return try Dictionary(
      rows.map { (try $0.value("snapshot_id"), try $0.value("recorded_at")) }
    ) { first, _ in first }
  }

  /// Stores a recording in place of the one that `snapshot` has, if it has one.
  ///
  /// - Parameter recordedAt: When it was stored first; `nil`: now.
  func replace(
    of snapshot: SnapshotRow,
    door: String,
    recordedAt: String? = nil,
    durationSeconds: Double,
    runs: [Range<UInt64>]
  ) throws {
    try StoreFormat.add(.workingSets, database)
    try database.execute(
      sql: "DELETE FROM working_set WHERE snapshot_id = ?",
      arguments: [snapshot.id]
    )
    try database.execute(
      sql: """
        INSERT INTO working_set (snapshot_id, door, recorded_at, duration_seconds)
        VALUES (?, ?, ?, ?)
        """,
      arguments: [snapshot.id, door, recordedAt ?? UTCTime.now, durationSeconds]
    )
    let statement = try database.makeStatement(
      sql: """
        INSERT INTO working_set_run (snapshot_id, position, first_pfn, page_count)
        VALUES (?, ?, ?, ?)
        """
    )
    for (position, run) in runs.prefix(WorkingSet.maximumRunCount).enumerated() {
      try statement.execute(
        arguments: [snapshot.id, position, Int64(run.lowerBound), Int64(run.count)]
      )
    }
  }

  /// The snapshot itself or the nearest ancestor that has a recording.
  /// The snapshot whose recording a start from the one with `id` plays, where all are at hand.
  ///
  /// - Parameters:
  ///   - parentIDs: Of all snapshots.
  ///   - hasOwn: Whether a snapshot has a recording.
  static func nearest(_ id: Int64, _ parentIDs: [Int64: Int64?], _ hasOwn: (Int64) -> Bool)
    -> Int64?
  {
    var candidate: Int64? = id
    for _ in 0..<maximumDepth {
      guard let current = candidate else { return nil }
      if hasOwn(current) { return current }
      candidate = parentIDs[current] ?? nil
    }
    return nil
  }

  private func nearest(_ snapshot: SnapshotRow) throws -> SnapshotRow? {
    guard try isThere else { return nil }
    var candidate: SnapshotRow? = snapshot
    for _ in 0..<Self.maximumDepth {
      guard let current = candidate else { return nil }
      if try hasOwn(current) { return current }
      candidate = try current.parentID.flatMap { try SnapshotCatalog.fetch(id: $0, in: database) }
    }
    return nil
  }

  private func summary(of owner: SnapshotRow) throws -> WorkingSet.Summary {
    guard
      let row = try Row.fetchOne(
        database,
        sql: """
          SELECT w.door, w.recorded_at, w.duration_seconds, count(r.position) AS runs,
                 coalesce(total(r.page_count), 0) AS pages
            FROM working_set w LEFT JOIN working_set_run r USING (snapshot_id)
           WHERE w.snapshot_id = ? GROUP BY w.snapshot_id
          """,
        arguments: [owner.id]
      )
    else { throw VMCheckpointError.corrupt("\(owner.title) has lost its working set") }
    return WorkingSet.Summary(
      snapshot: owner.name,
      door: try row.value("door"),
      recordedAt: try row.value("recorded_at"),
      durationSeconds: try row.value("duration_seconds"),
      pageCount: UInt64(exactly: (try row.value("pages") as Double).rounded()) ?? .max,
      runCount: UInt64(clamping: try row.value("runs") as Int64)
    )
  }
}
