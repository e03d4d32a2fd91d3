import Foundation
import GRDB

/// What of a snapshot a restore needs beside its pages, read in one transaction.
struct RestorePlan {
  var snapshot: SnapshotRow
  var layout: RAMLayout
  /// Retargeted as the request asks.
  var overlays: StoredOverlays

  init(_ request: RestoreRequest, _ database: Database) throws {
    snapshot = try SnapshotCatalog.resolve(request.reference, in: database)
    layout = try snapshot.layout(database)
    overlays = try StoredOverlays(database, snapshot: snapshot, layout: layout)
    try overlays.retarget(
      tscFrequencyHz: request.tscFrequencyHz,
      cpuVendor: request.cpuVendor
    )
  }
}
