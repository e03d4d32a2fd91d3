import GRDB

/// The rows of the table `verification`: what was read as a whole and proved, and when.
struct VerificationTable {
  /// More rows than a store can have by this program are not read: a store may be hostile.
  private static let maximumRowCount = 1 << 20

  /// What a verification covered.
  enum Scope: Hashable {
    case store(StorePart)
    case snapshot(Int64)
  }

  private let database: Database

  init(_ database: Database) { self.database = database }

  /// Notes what a verification has found, in place of what it makes out of date.
  ///
  /// - Parameters:
  ///   - beganAt: When it began, as ``UTCTime/now``.
  ///   - lastSnapshotID: The newest snapshot then; 0: there was none.
  ///   - unread: The snapshots with pages that were not read, since they are in a remote only.
  func note(
    _ scope: Scope,
    problemCount: UInt64,
    beganAt: String,
    lastSnapshotID: Int64,
    unread: [Int64]
  ) throws {
    try StoreFormat.add(.verifications, database)
    var (snapshotID, part): (Int64?, StorePart) = (nil, .whole)
    switch scope {
    case .snapshot(let id):
      snapshotID = id
      try database.execute(
        sql: "DELETE FROM verification WHERE snapshot_id = ?",
        arguments: [id]
      )
    case .store(.whole):
      try database.execute(sql: "DELETE FROM verification")
    case .store(let one):
      part = one
      // Another number of parts divides the store otherwise.
      try database.execute(
        sql: """
          DELETE FROM verification
           WHERE snapshot_id IS NULL AND parts > 1 AND (parts <> ?1 OR part = ?2)
          """,
        arguments: [one.count, one.number]
      )
    }
    try database.execute(
      sql: """
        INSERT INTO verification (snapshot_id, part, parts, verified_at, last_snapshot_id, problems)
        VALUES (?, ?, ?, ?, ?, ?)
        """,
      arguments: [
        snapshotID, part.number, part.count, beganAt, lastSnapshotID, Int64(clamping: problemCount),
      ]
    )
    let verificationID = database.lastInsertedRowID
    for id in unread {
      // One that was deleted meanwhile is passed over.
      try database.execute(
        sql: """
          INSERT INTO verification_gap (verification_id, snapshot_id)
          SELECT ?, id FROM snapshot WHERE id = ?
          """,
        arguments: [verificationID, id]
      )
    }
  }

  /// Notes that no verification until now has read all of a snapshot's pages: they are others than before.
  func noteUnread(_ snapshotID: Int64) throws {
    guard try StoreFormat.features(of: database).contains(.verifications) else { return }
    try database.execute(
      sql: """
        INSERT OR IGNORE INTO verification_gap (verification_id, snapshot_id)
        SELECT id, ? FROM verification
        """,
      arguments: [snapshotID]
    )
  }

  /// The complete snapshots with pages that a verification of `part` cannot read, since they are in a remote only.
  ///
  /// - Complexity: O(*n*) for *n* extents of all snapshots, where there are such pages.
  func unreadSnapshots(in part: StorePart) throws -> [Int64] {
    guard try !ChunkPresence.onlyInRemotes(database).isEmpty else { return [] }
    return try Int64.fetchAll(
      database,
      sql: """
        SELECT s.id FROM snapshot s
         WHERE s.state = 'complete' AND EXISTS (
           SELECT 1 FROM ram_extent e
            WHERE e.snapshot_id = s.id AND abs(e.chunk_id % ?1) = ?2 - 1
              AND NOT EXISTS (SELECT 1 FROM chunk_data d WHERE d.chunk_id = e.chunk_id))
        """,
      arguments: [part.count, part.number]
    )
  }

  /// The newest complete snapshot; 0: there is none.
  func lastSnapshotID() throws -> Int64 {
    try Int64.fetchOne(database, sql: "SELECT max(id) FROM snapshot WHERE state = 'complete'") ?? 0
  }

  /// What the table says of all of the store.
  func summary() throws -> Summary {
    var summary = Summary()
    let isThere = try StoreFormat.features(of: database).contains(.verifications)
    // With more gaps than are read, nothing counts as proved.
    guard isThere, let gaps = try gaps() else { return summary }
    let rows = try Row.fetchCursor(
      database,
      sql: """
        SELECT id, snapshot_id, part, parts, verified_at, last_snapshot_id, problems FROM verification
         ORDER BY id LIMIT \(Self.maximumRowCount)
        """
    )
    while let row = try rows.next() {
      let problemCount = UInt64(clamping: try row.value("problems") as Int64)
      let proof = Proof(
        time: try row.value("verified_at"),
        lastSnapshotID: try row.value("last_snapshot_id"),
        unread: gaps[try row.value("id")] ?? []
      )
      summary.problemCount += problemCount
      if let id = try row.value("snapshot_id") as Int64? {
        if problemCount == 0, !proof.unread.contains(id) { summary.snapshots[id] = proof.time }
      } else if (try row.value("parts") as Int64) == 1 {
        if problemCount == 0 { summary.whole = proof }
      } else {
        summary.partCount = Int(clamping: try row.value("parts") as Int64)
        summary.knownPartCount += 1
        if problemCount == 0 { summary.soundParts.append(proof) }
      }
    }
    return summary
  }

  /// The snapshots that verifications did not read as a whole, by the verification.
  ///
  /// - Returns: `nil` when there are more than are read.
  private func gaps() throws -> [Int64: Set<Int64>]? {
    var gaps: [Int64: Set<Int64>] = [:]
    var count = 0
    let rows = try Row.fetchCursor(
      database,
      sql: "SELECT verification_id, snapshot_id FROM verification_gap LIMIT \(Self.maximumRowCount)"
    )
    while let row = try rows.next() {
      gaps[try row.value("verification_id"), default: []].insert(try row.value("snapshot_id"))
      count += 1
    }
    return count < Self.maximumRowCount ? gaps : nil
  }

  /// The part of so many that was not verified for the longest time: one that never was, if there is one.
  func nextPart(of count: Int) throws -> Int {
    guard try StoreFormat.features(of: database).contains(.verifications) else { return 1 }
    var times: [Int: String] = [:]
    let rows = try Row.fetchCursor(
      database,
      sql: """
        SELECT part, verified_at FROM verification
         WHERE snapshot_id IS NULL AND parts = ? LIMIT \(StorePart.maximumCount)
        """,
      arguments: [count]
    )
    while let row = try rows.next() {
      times[Int(clamping: try row.value("part") as Int64)] = try row.value("verified_at")
    }
    return (1...count).min { times[$0] ?? "" < times[$1] ?? "" } ?? 1
  }

  /// A verification of the store, or of a part of it, that found no damage.
  struct Proof {
    /// When it began.
    var time: String
    /// The newest snapshot then.
    var lastSnapshotID: Int64
    /// The snapshots with pages that it did not read.
    var unread: Set<Int64>

    func covers(_ snapshotID: Int64) -> Bool {
      snapshotID <= lastSnapshotID && !unread.contains(snapshotID)
    }
  }

  /// What was proved, and when.
  struct Summary {
    /// When all of the store was, at once.
    var whole: Proof?
    /// Parts that the store is verified in; 0: it is not.
    var partCount = 0
    /// Those that were verified.
    var knownPartCount = 0
    /// Those that are sound.
    var soundParts: [Proof] = []
    /// When snapshots were, one by one.
    var snapshots: [Int64: String] = [:]
    /// What was found damaged by the last verification of each.
    var problemCount: UInt64 = 0

    /// Since when all data of the store is proved: the time of the part that was read longest ago.
    var storeTime: String? { time { _ in true } }

    /// Since when a snapshot is proved; `nil`: it never was, or not with all of its pages.
    func time(of id: Int64) -> String? {
      [time { $0.covers(id) }, snapshots[id]].compactMap { $0 }.max()
    }

    private func time(_ isProof: (Proof) -> Bool) -> String? {
      let isWhole = partCount > 0 && soundParts.count == partCount && soundParts.allSatisfy(isProof)
      return [
        whole.flatMap { isProof($0) ? $0.time : nil },
        isWhole ? soundParts.map(\.time).min() : nil,
      ].compactMap { $0 }.max()
    }
  }
}
