import Foundation
import GRDB

/// Rechecks one snapshot against its digest: regions, extents, overlays, device state.
struct SnapshotVerifier {
  /// What was found; chunks are judged elsewhere.
  struct Findings {
    /// What is wrong with the snapshot itself.
    var problems: [String] = []
    /// The pages that are held by damaged chunks, by chunk.
    var damagedPages: [Int64: PageRangeCollector] = [:]
  }

  private static let maximumProblemCount = 100

  let database: Database
  /// What is wrong with each damaged chunk.
  let chunkProblems: [Int64: String]

  /// - Throws: ``VMCheckpointError`` when cancelled; damage is a finding.
  func run(_ snapshot: SnapshotRow, cancellation: CancellationFlag) throws -> Findings {
    var findings = Findings()
    do {
      try check(snapshot, &findings, cancellation)
    } catch let error as VMCheckpointError where error.code != .cancelled {
      findings.problems.append(error.message)
    } catch let error as DatabaseError where error.resultCode.isDamage {
      findings.problems.append("it cannot be read: \(error.message ?? "\(error.resultCode)")")
    }
    return findings
  }

  private func check(
    _ snapshot: SnapshotRow,
    _ findings: inout Findings,
    _ cancellation: CancellationFlag
  ) throws {
    let layout = try snapshot.layout(database)
    if layout.byteCount != snapshot.ramByteCount {
      findings.problems.append(
        "its regions hold \(layout.byteCount) bytes, and its row says \(snapshot.ramByteCount)"
      )
    }
    var digester = SnapshotDigester()
    for region in layout.regions { digester.add(region) }
    let ramDigest = try checkRAM(snapshot, layout, &findings, cancellation)
    digester.add(ramDigest: ramDigest)
    if let guestOSID = snapshot.guestOSID { digester.add(guestOSID: guestOSID) }
    try checkOverlays(snapshot, layout, &findings, &digester)
    try checkDeviceStates(snapshot, &findings, &digester)
    // With a problem found above, the digest cannot be right, and says nothing more.
    guard findings.problems.isEmpty, findings.damagedPages.isEmpty else { return }
    if Data(ramDigest) != snapshot.ramDigest {
      findings.problems.append("its RAM does not have its digest")
    } else if Data(digester.finalize()) != snapshot.digest {
      findings.problems.append("its regions, overlays or device state do not have its digest")
    }
  }

  private func checkRAM(
    _ snapshot: SnapshotRow,
    _ layout: RAMLayout,
    _ findings: inout Findings,
    _ cancellation: CancellationFlag
  ) throws -> [UInt8] {
    var extents = try ExtentReader(database, snapshotID: snapshot.id)
    let placement = RAMPlacement(flat: layout)
    var digests = try DigestBlobs(database)
    var digester = RAMDigester()
    var pageCount: UInt64 = 0
    var extentCount = 0
    while let extent = try extents.next() {
      extentCount += 1
      if extentCount % 4096 == 0 { try cancellation.check() }
      pageCount += UInt64(extent.pageCount)
      if !placement.forEachRun(of: extent, { _ in }) {
        note("the extent at PFN \(hexString(extent.firstPFN)) is no RAM", &findings)
      }
      if chunkProblems[extent.chunkID] != nil {
        for pfn in extent.firstPFN..<extent.endPFN {
          findings.damagedPages[extent.chunkID, default: PageRangeCollector(maximumRangeCount: 100)]
            .add(pfn: pfn)
        }
        continue
      }
      for index in 0..<Int(extent.pageCount) {
        digester.add(
          pfn: extent.firstPFN + UInt64(index),
          digest: try digests.digest(at: extent.location(at: index))
        )
      }
    }
    if pageCount != snapshot.storedPageCount {
      note("it has \(pageCount) pages instead of \(snapshot.storedPageCount)", &findings)
    }
    return digester.finalize()
  }

  private func checkOverlays(
    _ snapshot: SnapshotRow,
    _ layout: RAMLayout,
    _ findings: inout Findings,
    _ digester: inout SnapshotDigester
  ) throws {
    let overlays = try StoredOverlays(database, snapshot: snapshot, layout: layout)
    do throws(VMCheckpointError) {
      _ = try overlays.bareDocument().validated(in: layout)
    } catch {
      note("its overlays break a rule: \(error.message)", &findings)
    }
    for entry in overlays.entries {
      let overlay = entry.overlay
      let contents = overlay.kind.storesContents ? overlay.contents() : nil
      digester.add(
        pfn: overlay.pfn.rawValue,
        kind: overlay.kind.rawValue,
        vp: overlay.vp,
        baked: entry.isBaked,
        parametersJSON: overlay.parametersJSON,
        contents: contents.map { $0.withUnsafeBytes { PageDigest(of: $0) } }
      )
    }
  }

  private func checkDeviceStates(
    _ snapshot: SnapshotRow,
    _ findings: inout Findings,
    _ digester: inout SnapshotDigester
  ) throws {
    let rows = try Row.fetchCursor(
      database,
      sql: """
        SELECT name, format, version, bytes, sha256, encoding, data
          FROM device_state WHERE snapshot_id = ? ORDER BY position
        """,
      arguments: [snapshot.id]
    )
    while let row = try rows.next() {
      let sha256: Data = try row.value("sha256")
      do throws(VMCheckpointError) {
        _ = try DeviceStateCodec.decode(
          try row.value("data"),
          encoding: try row.value("encoding"),
          byteCount: try row.value("bytes"),
          sha256: sha256,
          name: try row.value("name")
        )
      } catch {
        note(error.message, &findings)
      }
      digester.add(
        deviceStateNamed: try row.value("name"),
        format: try row.value("format"),
        version: UInt32(clamping: try row.value("version") as Int64),
        byteCount: UInt64(clamping: try row.value("bytes") as Int64),
        sha256: Array(sha256)
      )
    }
  }

  private func note(_ problem: String, _ findings: inout Findings) {
    if findings.problems.count < Self.maximumProblemCount { findings.problems.append(problem) }
  }
}
