import GRDB

/// What a form may read of the snapshot that is restored, in the transaction that reads all rows.
package struct PlannedSnapshot {
  let snapshot: SnapshotRow
  private let database: Database
  private let reader: StoreReader<Database>
  package let layout: RAMLayout
  /// The pages whose content is unknown: ``page(at:)`` gives zeros for them.
  package let absent: AbsentPages

  init(
    _ snapshot: SnapshotRow,
    layout: RAMLayout,
    absent: AbsentPages,
    _ database: Database
  ) {
    self.snapshot = snapshot
    self.layout = layout
    self.absent = absent
    self.database = database
    reader = StoreReader(database)
  }

  /// What messages call the snapshot.
  package var title: String { snapshot.title }

  /// All device states with their data, in the VMM's order.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when a SHA-256 is not right, or
  ///   `DatabaseError`.
  package func deviceStates() throws -> [DeviceState] {
    try DeviceStateRow.load(of: snapshot, database)
  }

  /// The first device state of `format`, if there is one.
  ///
  /// - Throws: As ``deviceStates()``.
  package func deviceState(format: String) throws -> DeviceState? {
    try DeviceStateRow.load(of: snapshot, format: format, database).first
  }

  /// The page at `pfn` as bare RAM; zero where nothing is stored.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`, or `DatabaseError`.
  package func page(at pfn: PFN) throws -> PageContents {
    try reader.withPage(at: pfn, of: snapshot.stored) { page in
      page.flatMap(PageContents.init(copying:)) ?? .zero
    }
  }
}
