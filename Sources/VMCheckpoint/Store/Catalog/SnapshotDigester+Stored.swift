import Foundation
import GRDB

extension SnapshotDigester {
  /// The digest of a snapshot as the store has it: of all that a restore uses.
  ///
  /// - Parameters:
  ///   - ramDigest: The snapshot's own, or one that was computed anew.
  ///   - overlays: As they are stored, not retargeted.
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` for impossible rows, or `DatabaseError`.
  static func digest(
    of snapshot: SnapshotRow,
    layout: RAMLayout,
    ramDigest: [UInt8],
    absent: AbsentPages,
    overlays: StoredOverlays,
    _ database: Database
  ) throws -> Data {
    var digester = SnapshotDigester()
    for region in layout.regions { digester.add(region) }
    digester.add(ramDigest: ramDigest)
    digester.add(absent)
    digester.add(
      guestOSID: snapshot.guestOSID,
      cpuVendor: snapshot.cpuVendor,
      tscFrequencyHz: snapshot.tscFrequencyHz
    )
    for entry in overlays.entries { digester.add(entry) }
    try digester.addDeviceStates(of: snapshot, database)
    return Data(digester.finalize())
  }

  private mutating func add(_ entry: StoredOverlays.Entry) {
    let overlay = entry.overlay
    let contents = overlay.kind.storesContents ? overlay.contents() : nil
    add(
      pfn: overlay.pfn.rawValue,
      kind: overlay.kind.rawValue,
      vp: overlay.vp,
      baked: entry.isBaked,
      parametersJSON: overlay.parametersJSON,
      contents: contents.map { $0.withUnsafeBytes { PageDigest(of: $0) } }
    )
  }

  /// By the SHA-256s in their rows. A reader of the data checks that it has these.
  private mutating func addDeviceStates(of snapshot: SnapshotRow, _ database: Database) throws {
    try DeviceStateRow.forEach(of: snapshot, database) { state in
      add(
        deviceStateNamed: state.name,
        format: state.format,
        version: state.version,
        byteCount: UInt64(clamping: state.byteCount),
        sha256: Array(state.sha256)
      )
    }
  }
}

extension SnapshotRow {
  /// Checks that the rows that describe the snapshot beside its pages are those that were saved. The
  /// pages are not read: the RAM's stored digest is used. Extents and pages are checked one by one when
  /// they are read.
  ///
  /// - Parameter overlays: As they are stored, not retargeted.
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`, or `DatabaseError`.
  func requireDigest(
    _ layout: RAMLayout,
    _ absent: AbsentPages,
    _ overlays: StoredOverlays,
    _ database: Database
  ) throws {
    let digest = try SnapshotDigester.digest(
      of: self,
      layout: layout,
      ramDigest: Array(ramDigest),
      absent: absent,
      overlays: overlays,
      database
    )
    guard digest != self.digest else { return }
    throw VMCheckpointError(
      .corrupt,
      "\(title) is damaged: \(Self.wrongDigest)",
      hint: "see what else is hurt with: vmckpt verify"
    )
  }
}
