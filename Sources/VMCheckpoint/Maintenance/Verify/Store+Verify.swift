import Algorithms
import GRDB

extension Store {
  /// Recomputes everything: SQLite's integrity check, the page index, every chunk's checksum, every
  /// page's SHA-256, every snapshot's extents, overlays, device state and digest. With `references`,
  /// only these snapshots and their chunks.
  ///
  /// With a part, only its chunks and snapshots; and of SQLite's check what concerns tables other than that
  /// of the chunks' data.
  ///
  /// The store notes what was found and when, if it can be written (``status()``).
  ///
  /// Restores and verifies may run at the same time; saves may too, and a snapshot that is deleted
  /// in the meantime is left out.
  ///
  /// - Returns: What is damaged, and which snapshots it hurts.
  /// - Throws: ``VMCheckpointError`` when the store cannot be examined at all, or when cancelled.
  public func verify(
    _ references: [SnapshotReference] = [],
    part: StorePart = .whole,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> VerifyReport {
    do {
      let beganAt = UTCTime.now
      let (report, notes) = try verifyAll(references, part, control)
      note(report, notes, beganAt: beganAt, control)
      return report
    } catch {
      // A user who runs verify needs no hint to run it.
      let hint = error.hint?.contains("vmckpt verify") == true ? "restore a backup" : error.hint
      throw VMCheckpointError(error.code, error.message, hint: hint)
    }
  }

  /// The part of `count` equal ones whose verification is longest ago, as the store has noted it.
  ///
  /// - Throws: ``VMCheckpointError``; `invalidArgument` when there cannot be so many.
  public func nextPart(of count: Int) throws(VMCheckpointError) -> StorePart {
    _ = try StorePart(1, of: count)
    let number = try read { try VerificationTable($0).nextPart(of: count) }
    return try StorePart(number, of: count)
  }

  /// What is to be noted of a verification.
  private struct VerificationNotes {
    var scopes: [(VerificationTable.Scope, problemCount: UInt64)] = []
    var lastSnapshotID: Int64 = 0
    /// Snapshots with pages that were not read; `nil`: it is not known which, and nothing can be noted.
    var unread: [Int64]? = []
  }

  /// A store that is damaged as a database is not written.
  private func note(
    _ report: VerifyReport,
    _ notes: VerificationNotes,
    beganAt: String,
    _ control: OperationControl
  ) {
    guard !isReadOnly, let allUnread = notes.unread,
      !report.problems.contains(where: { $0.subject == "database" })
    else { return }
    do throws(VMCheckpointError) {
      try writeOnFullDisk { database in
        let table = VerificationTable(database)
        for (scope, problemCount) in notes.scopes {
          var unread = allUnread
          if case .snapshot(let id) = scope {
            guard try SnapshotCatalog.fetch(id: id, in: database) != nil else { continue }
            unread = unread.filter { $0 == id }
          }
          try table.note(
            scope,
            problemCount: problemCount,
            beganAt: beganAt,
            lastSnapshotID: notes.lastSnapshotID,
            unread: unread
          )
        }
      }
    } catch {
      // Who may only read the store has nothing to note.
      guard error.code != .permissionDenied else { return }
      control.onWarning?("the store cannot note what was verified: \(error.message)")
    }
  }

  private func verifyAll(
    _ references: [SnapshotReference],
    _ part: StorePart,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> (VerifyReport, VerificationNotes) {
    let start = MonotonicClock.nowSeconds
    return try withSharedChunks(control: control) { database in
      var verification = Verification()
      var notes = VerificationNotes()
      // A store that is damaged may not say; then it is not noted as sound either.
      let table = VerificationTable(database)
      notes.lastSnapshotID = (try? table.lastSnapshotID()) ?? 0
      notes.unread = try? table.unreadSnapshots(in: references.isEmpty ? part : .whole)
      let snapshots: [SnapshotRow]
      let chunkIDs: [Int64]
      if references.isEmpty {
        for problem in try DatabaseVerifier.problems(database, withChunkData: part.isWhole) {
          verification.add(subject: "database", problem)
        }
        for problem in try CatalogVerifier.problems(database) {
          verification.add(subject: problem.subject, problem.message)
        }
        snapshots = try Self.allSnapshots(database, &verification).filter { part.contains($0.id) }
        chunkIDs = try Self.allChunkIDs(database, in: part)
      } else {
        snapshots = Array(
          try references.map { try SnapshotCatalog.resolve($0, in: database) }
            .uniqued(on: \.id)
        )
        chunkIDs = try Self.chunkIDs(namedBy: snapshots, database)
      }
      let elsewhere = try ChunkPresence.onlyInRemotes(database).intersection(chunkIDs)
      let chunks = try ChunkVerifier(control: control)
        .run(database, chunkIDs: chunkIDs.filter { !elsewhere.contains($0) })
      var verifier = try SnapshotVerifier(database: database, chunkProblems: chunks.problems)
      for snapshot in snapshots {
        try control.cancellation.check()
        let findings = try verifier.run(snapshot, cancellation: control.cancellation)
        // One that is deleted meanwhile looks damaged.
        guard !findings.isEmpty, try SnapshotCatalog.fetch(id: snapshot.id, in: database) != nil
        else { continue }
        verification.add(snapshot, findings)
      }
      verification.add(chunks.problems)
      for (chunkID, problem) in chunks.rowProblems.sorted(by: { $0.key < $1.key }) {
        verification.add(subject: "chunk \(chunkID)", problem)
      }
      let report = verification.report(
        of: part,
        snapshotCount: UInt64(snapshots.count),
        chunks: chunks,
        remoteChunkCount: UInt64(elsewhere.count),
        durationSeconds: MonotonicClock.nowSeconds - start
      )
      let damaged = Set(report.damagedSnapshots)
      notes.scopes =
        references.isEmpty
        ? [(.store(part), report.problemCount)]
        : snapshots.map { (.snapshot($0.id), damaged.contains($0.name) ? 1 : 0) }
      return (report, notes)
    }
  }

  /// The chunks that there are and those that extents name, ascending. Of a table that is damaged,
  /// those before the damage.
  private static func allChunkIDs(
    _ database: Database,
    in part: StorePart
  ) throws -> [Int64] {
    var ids = Set<Int64>()
    for sql in ["SELECT id FROM chunk", "SELECT DISTINCT chunk_id FROM ram_extent"] {
      do {
        let select = try HotStatement(database, sql)
        while try select.step() {
          if part.contains(select.int64(0)) { ids.insert(select.int64(0)) }
        }
        select.reset()
      } catch let error as DatabaseError where error.resultCode.isDamage {}
    }
    return ids.sorted()
  }

  /// All snapshots; none, and a problem, when even their table cannot be read.
  private static func allSnapshots(
    _ database: Database,
    _ verification: inout Verification
  ) throws -> [SnapshotRow] {
    do {
      return try SnapshotCatalog.all(in: database)
    } catch let error as DatabaseError
      where error.resultCode.isDamage || error.resultCode == .SQLITE_TOOBIG
    {
      verification.add(subject: "database", "the table of snapshots cannot be read")
      return []
    }
  }

  private static func chunkIDs(
    namedBy snapshots: [SnapshotRow],
    _ database: Database
  ) throws -> [Int64] {
    var ids = Set<Int64>()
    for snapshot in snapshots {
      ids.formUnion(
        try Int64.fetchAll(
          database,
          sql: """
            SELECT DISTINCT chunk_id FROM ram_extent WHERE snapshot_id = ?1
            UNION SELECT contents_chunk_id FROM overlay
             WHERE snapshot_id = ?1 AND contents_chunk_id IS NOT NULL
            """,
          arguments: [snapshot.id]
        )
      )
    }
    return ids.sorted()
  }
}

/// Gathers findings into a report.
private struct Verification {
  private var problems: [VerifyReport.Problem] = []
  private var problemCount: UInt64 = 0
  private var damagedSnapshots: [String] = []
  private var chunkVictims: [Int64: [VerifyReport.Victim]] = [:]

  mutating func add(
    subject: String,
    _ message: String,
    victims: [VerifyReport.Victim] = []
  ) {
    problemCount += 1
    guard problems.count < VerifyReport.maximumProblemCount else { return }
    problems.append(
      VerifyReport.Problem(
        subject: subject,
        message: message,
        victims: victims
      )
    )
  }

  mutating func add(_ snapshot: SnapshotRow, _ findings: SnapshotVerifier.Findings) {
    for problem in findings.problems + findings.checksumProblems {
      add(
        subject: snapshot.title,
        problem,
        victims: [VerifyReport.Victim(snapshot: snapshot.name, pages: [])]
      )
    }
    for (chunkID, var pages) in findings.damagedPages {
      chunkVictims[chunkID, default: []].append(
        VerifyReport.Victim(snapshot: snapshot.name, pages: pages.finish().ranges)
      )
    }
    if !findings.isEmpty {
      damagedSnapshots.append(snapshot.name)
    }
  }

  /// Call after all snapshots were added.
  mutating func add(_ chunkProblems: [Int64: String]) {
    for (chunkID, problem) in chunkProblems.sorted(by: { $0.key < $1.key }) {
      add(subject: "chunk \(chunkID)", problem, victims: chunkVictims[chunkID] ?? [])
    }
  }

  func report(
    of part: StorePart,
    snapshotCount: UInt64,
    chunks: ChunkVerifier.Findings,
    remoteChunkCount: UInt64,
    durationSeconds: Double
  ) -> VerifyReport {
    VerifyReport(
      part: part,
      snapshotCount: snapshotCount,
      chunkCount: chunks.chunkCount,
      pageCount: chunks.pageCount,
      storedByteCount: chunks.storedByteCount,
      remoteChunkCount: remoteChunkCount,
      problems: problems,
      problemCount: problemCount,
      damagedSnapshots: damagedSnapshots,
      durationSeconds: durationSeconds
    )
  }
}
