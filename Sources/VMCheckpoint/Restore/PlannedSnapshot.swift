import GRDB

/// A stored snapshot that is to be restored, in the transaction that reads all rows.
struct PlannedSnapshot: RestorableGuest {
  let snapshot: SnapshotRow
  let database: Database
  private let reader: StoreReader<Database>
  let layout: RAMLayout
  let absent: AbsentPages

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

  var title: String { snapshot.title }

  func deviceStates() throws -> [DeviceState] {
    try DeviceStateRow.load(of: snapshot, database)
  }

  func deviceState(format: String) throws -> DeviceState? {
    try DeviceStateRow.load(of: snapshot, format: format, database).first
  }

  func page(at pfn: PFN) throws -> PageContents {
    try reader.withPage(at: pfn, of: snapshot.stored) { page in
      page.flatMap(PageContents.init(copying:)) ?? .zero
    }
  }
}
