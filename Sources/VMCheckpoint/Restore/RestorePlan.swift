import Foundation
package import GRDB

/// What of a snapshot a restore needs beside its pages, read in one transaction: rows may be deleted
/// after it, chunks not.
package struct RestorePlan {
  let snapshot: SnapshotRow
  /// Where the snapshot's RAM is, in guest-physical addresses and in a flat file.
  package let layout: RAMLayout
  /// The pages whose content is unknown. They are restored as zeros.
  let absent: AbsentPages
  /// Writes the form that is asked for.
  let writer: any RestorationWriter
  /// Retargeted as the request asks.
  let overlays: StoredOverlays
  /// The overlays.json that describes the restored RAM; empty unless it is asked for.
  let overlaysJSON: String

  /// Reads what `request` needs of the store.
  ///
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`.
  package init(_ request: RestoreRequest, _ database: Database) throws {
    snapshot = try SnapshotCatalog.resolve(request.reference, in: database)
    layout = try snapshot.layout(database)
    absent = try snapshot.absentPages(database, in: layout)
    writer = try request.format.form.plan(
      PlannedSnapshot(snapshot, layout: layout, absent: absent, database)
    )
    var overlays = try StoredOverlays(database, snapshot: snapshot, layout: layout)
    try snapshot.requireDigest(layout, absent, overlays, database)
    try overlays.retarget(
      tscFrequencyHz: request.tscFrequencyHz,
      cpuVendor: request.cpuVendor
    )
    overlays.leave(to: writer.leavesToVMM)
    self.overlays = overlays
    overlaysJSON =
      try request.overlaysOutputPath == nil
      ? "" : Self.document(overlays, of: snapshot, request.overlays, database).encodedJSON()
  }

  /// The overlays.json that describes RAM with this treatment.
  static func document(
    _ overlays: StoredOverlays,
    of snapshot: SnapshotRow,
    _ treatment: OverlayTreatment,
    _ database: Database
  ) throws -> OverlayDocument {
    switch treatment {
    case .omit:
      return overlays.bareDocument()
    case .apply:
      let (reader, stored) = (StoreReader(database), snapshot.stored)
      return try overlays.appliedDocument { pfn in
        try reader.withPage(at: pfn, of: stored) { page in
          page.flatMap(PageContents.init(copying:)).map { .page($0) } ?? .zero
        }
      }
    }
  }
}
