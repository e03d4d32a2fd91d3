import Foundation
import GRDB

/// Rechecks one snapshot against its digest: regions, extents, overlays, device state.
struct SnapshotVerifier {
  /// What was found; chunks are judged elsewhere.
  struct Findings {
    /// What is wrong with the snapshot itself.
    var problems: [String] = []
    /// What is wrong with its extents' checksums, although its pages have their digest: a restore
    /// without `--verify` refuses it.
    var checksumProblems: [String] = []
    /// The pages that are held by damaged chunks, by chunk.
    var damagedPages: [Int64: PageRangeCollector] = [:]

    /// Whether nothing was found.
    var isEmpty: Bool { problems.isEmpty && checksumProblems.isEmpty && damagedPages.isEmpty }
  }

  private static let maximumProblemCount = 100

  private let database: Database
  /// What is wrong with each damaged chunk.
  private let chunkProblems: [Int64: String]
  /// `nil` where the store has no seed: another check reports that.
  private let checksums: ExtentChecksum?
  private var digests: DigestBlobs

  /// Prepares what all snapshots need: a store may have very many of them.
  ///
  /// - Throws: ``VMCheckpointError`` or `DatabaseError` when the store cannot be read; never for damage.
  init(database: Database, chunkProblems: [Int64: String]) throws {
    self.database = database
    self.chunkProblems = chunkProblems
    checksums = try Self.checksums(database)
    digests = try DigestBlobs(database)
  }

  private static func checksums(_ database: Database) throws -> ExtentChecksum? {
    do {
      return try StoreSeed(database).extentChecksum
    } catch let error as VMCheckpointError where error.isDamage {
      return nil
    } catch let error as DatabaseError
      where error.resultCode.isDamage || error.resultCode == .SQLITE_TOOBIG
    {
      return nil
    }
  }

  /// - Throws: ``VMCheckpointError`` when cancelled, or out of memory; damage is a finding.
  mutating func run(_ snapshot: SnapshotRow, cancellation: CancellationFlag) throws -> Findings {
    var findings = Findings()
    do {
      try check(snapshot, &findings, cancellation)
    } catch let error as VMCheckpointError where error.isDamage {
      findings.problems.append(error.message)
    } catch let error as DatabaseError where error.resultCode == .SQLITE_TOOBIG {
      findings.problems.append("it has a value that is longer than any of the format")
    } catch let error as DatabaseError where error.resultCode.isDamage {
      findings.problems.append("it cannot be read: \(error.message ?? "\(error.resultCode)")")
    }
    return findings
  }

  private mutating func check(
    _ snapshot: SnapshotRow,
    _ findings: inout Findings,
    _ cancellation: CancellationFlag
  ) throws {
    let layout = try snapshot.layout(database)
    let absent = try snapshot.absentPages(database, in: layout)
    let ramDigest = try checkRAM(snapshot, layout, absent, &findings, cancellation)
    let overlays = try StoredOverlays(database, snapshot: snapshot, layout: layout)
    do throws(VMCheckpointError) {
      _ = try overlays.bareDocument().validated(in: layout)
    } catch {
      note("its overlays break a rule: \(error.message)", &findings)
    }
    try checkDeviceStates(snapshot, &findings)
    // With a problem found above, the digest cannot be right, and says nothing more.
    guard findings.problems.isEmpty, findings.damagedPages.isEmpty else { return }
    if Data(ramDigest) != snapshot.ramDigest {
      findings.problems.append("its RAM does not have its digest")
    } else if try SnapshotDigester.digest(
      of: snapshot,
      layout: layout,
      ramDigest: ramDigest,
      absent: absent,
      overlays: overlays,
      database
    ) != snapshot.digest {
      findings.problems.append(SnapshotRow.wrongDigest)
    }
  }

  private mutating func checkRAM(
    _ snapshot: SnapshotRow,
    _ layout: RAMLayout,
    _ absent: AbsentPages,
    _ findings: inout Findings,
    _ cancellation: CancellationFlag
  ) throws -> [UInt8] {
    var extents = try ExtentReader(database, snapshotID: snapshot.id)
    let placement = RAMPlacement(flat: layout)
    var digester = RAMDigester()
    let key = checksums?.key(ofSnapshot: snapshot.uuid) ?? SnapshotKey(value: 0)
    var tally = ExtentTally()
    var extentCount = 0
    while let extent = try extents.next() {
      extentCount += 1
      if extentCount % 4096 == 0 { try cancellation.check() }
      tally.add(extent)
      if !placement.forEachRun(of: extent, { _ in }) {
        note("the extent at PFN \(hexString(extent.firstPFN)) is not RAM", &findings)
      }
      if let run = absent.run(endingAfter: extent.firstPFN), run.lowerBound < extent.endPFN {
        note("the extent at PFN \(hexString(extent.firstPFN)) holds absent pages", &findings)
      }
      if chunkProblems[extent.chunkID] != nil {
        for pfn in extent.firstPFN..<extent.endPFN {
          findings.damagedPages[extent.chunkID, default: PageRangeCollector(maximumRangeCount: 100)]
            .add(pfn: pfn)
        }
        continue
      }
      var checksum: UInt64 = 0
      for index in 0..<Int(extent.pageCount) {
        let pfn = extent.firstPFN + UInt64(index)
        let digest = try digests.digest(at: extent.location(at: index))
        digester.add(pfn: pfn, digest: digest)
        checksum &+= checksums?.term(key, pfn: pfn, digest: digest) ?? 0
      }
      if checksums != nil, checksum != extent.checksum {
        noteChecksum(
          "at PFN \(hexString(extent.firstPFN)) \(Extent.wrongChecksum)",
          &findings
        )
      }
    }
    if let problem = tally.problem(snapshot, comparesChecksums: false) {
      note(problem, &findings)
    } else if let problem = tally.problem(snapshot) {
      noteChecksum(problem, &findings)
    }
    return digester.finalize()
  }

  private func checkDeviceStates(
    _ snapshot: SnapshotRow,
    _ findings: inout Findings
  ) throws {
    try DeviceStateRow.forEach(of: snapshot, withData: true, database) { state in
      do throws(VMCheckpointError) {
        _ = try state.bytes()
      } catch {
        guard error.isDamage else { throw error }
        note(error.message, &findings)
      }
    }
  }

  private func noteChecksum(_ problem: String, _ findings: inout Findings) {
    guard findings.checksumProblems.count < Self.maximumProblemCount else { return }
    findings.checksumProblems.append(problem)
  }

  private func note(_ problem: String, _ findings: inout Findings) {
    if findings.problems.count < Self.maximumProblemCount { findings.problems.append(problem) }
  }
}
