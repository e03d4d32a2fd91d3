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
  package let writer: any RestorationWriter
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

extension RestorePlan {
  /// The snapshot's UUID.
  package var uuid: String { snapshot.uuid }

  /// The snapshot's name.
  package var name: String { snapshot.name }

  /// What messages call the snapshot.
  package var title: String { snapshot.title }

  /// The active overlays whose bytes RAM shows by `treatment`, beside those that it has of itself.
  package func writtenOverlays(_ treatment: OverlayTreatment) -> [Overlay] {
    let pfns = Set(RAMPatch.patches(for: overlays, treatment: treatment).map(\.pfn))
    return overlays.active.map(\.overlay).filter { pfns.contains($0.pfn) }
  }

  /// The active overlays that RAM does not show by `treatment`, and which the VMM does not lay over it either.
  package func omittedOverlays(_ treatment: OverlayTreatment) -> [Overlay] {
    guard treatment == .omit else { return [] }
    return overlays.active.filter { !$0.isBaked && !$0.isLeftToVMM }.map(\.overlay)
  }
}

extension Store {
  /// What a restore would need of a snapshot beside its pages, for who gives the pages away in another way.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound`, `corrupt`, or as the form's plan.
  package func plan(_ request: RestoreRequest) throws(VMCheckpointError) -> RestorePlan {
    try read { try RestorePlan(request, $0) }
  }
}
