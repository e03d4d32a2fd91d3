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
  /// - Parameter beganAt: When it began, as ``UTCTime/now``.
  func note(_ scope: Scope, problemCount: UInt64, beganAt: String) throws {
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
        INSERT INTO verification (snapshot_id, part, parts, verified_at, problems)
        VALUES (?, ?, ?, ?, ?)
        """,
      arguments: [snapshotID, part.number, part.count, beganAt, Int64(clamping: problemCount)]
    )
  }

  /// What the table says of all of the store.
  func summary() throws -> Summary {
    var summary = Summary()
    let isThere = try StoreFormat.features(of: database).contains(.verifications)
    guard isThere else { return summary }
    let rows = try Row.fetchCursor(
      database,
      sql: """
        SELECT snapshot_id, part, parts, verified_at, problems FROM verification
         ORDER BY id LIMIT \(Self.maximumRowCount)
        """
    )
    while let row = try rows.next() {
      let problemCount = UInt64(clamping: try row.value("problems") as Int64)
      let time: String = try row.value("verified_at")
      summary.problemCount += problemCount
      if let id = try row.value("snapshot_id") as Int64? {
        if problemCount == 0 { summary.snapshots[id] = time }
      } else if (try row.value("parts") as Int64) == 1 {
        if problemCount == 0 { summary.whole = time }
      } else {
        summary.partCount = Int(clamping: try row.value("parts") as Int64)
        summary.knownPartCount += 1
        if problemCount == 0 { summary.soundPartTimes.append(time) }
      }
    }
    return summary
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

  /// What was proved, and when.
  struct Summary {
    /// When all of the store was, at once.
    var whole: String?
    /// Parts that the store is verified in; 0: it is not.
    var partCount = 0
    /// Those that were verified.
    var knownPartCount = 0
    /// When those were that are sound.
    var soundPartTimes: [String] = []
    /// When snapshots were, one by one.
    var snapshots: [Int64: String] = [:]
    /// What was found damaged by the last verification of each.
    var problemCount: UInt64 = 0

    /// Since when all of the store is proved: the time of the part that was read longest ago.
    var storeTime: String? {
      let isWhole = partCount > 0 && soundPartTimes.count == partCount
      return [whole, isWhole ? soundPartTimes.min() : nil].compactMap { $0 }.max()
    }

    /// Since when a snapshot is proved that was complete at `completedAt`; `nil`: it never was.
    func time(of id: Int64, completedAt: String) -> String? {
      [storeTime, snapshots[id]].compactMap { $0 }.filter { $0 >= completedAt }.max()
    }
  }
}
