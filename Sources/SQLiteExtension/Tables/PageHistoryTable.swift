import CSQLiteExtension
import VMCheckpointCore

extension TableFunction {
  /// `page_history(vm, pfn)`: a row for each snapshot of a VM, oldest first.
  static var pageHistory: TableFunction {
    TableFunction(
      help: FunctionHelp(
        "page_history",
        ["vm", "pfn"],
        kind: .table,
        returns: "rows",
        "a row for each snapshot of a VM: what the page was, and whether it changed"
      ),
      columns: [
        "snapshot_id INTEGER", "snapshot TEXT", "completed_at TEXT", "state TEXT",
        "changed INTEGER", "digest TEXT",
      ],
      keyColumn: 0,
      typicalRowCount: 100
    ) { connection, query in
      try PageHistoryCursor(
        connection,
        vm: try query.arguments[0]!.text(),
        pfn: try query.arguments[1]!.pfn(),
        range: query.range
      )
    }
  }
}

private final class PageHistoryCursor: TableCursor {
  private let connection: Connection
  private let snapshots: Statement
  private let pfn: PFN
  private var state: PageState = .outside
  private var isFirst = true
  private var hasChanged = false

  private enum PageState: Equatable {
    /// No RAM.
    case outside
    /// Left out by the dump that was saved.
    case absent
    case zero
    case stored(PageDigest)
  }

  init(_ connection: Connection, vm: String, pfn: PFN, range: ClosedRange<Int64>) throws {
    self.connection = connection
    self.pfn = pfn
    snapshots = try connection.makeStatement(
      """
      SELECT \(StoredSnapshot.columns), completed_at FROM main.snapshot
       WHERE vm = ?1 AND state = 'complete' AND id BETWEEN ?2 AND ?3 ORDER BY id
      """
    )
    try snapshots.bind(vm, at: 1)
    // A change is one against the snapshot before: all of them are read.
    try snapshots.bind(0, at: 2)
    try snapshots.bind(range.upperBound, at: 3)
  }

  func next() throws -> Bool {
    guard try snapshots.step() else { return false }
    let snapshot = try StoredSnapshot(snapshots)
    defer { connection.resetStatements() }
    let previous = state
    state = try state(in: snapshot)
    hasChanged = !isFirst && state != previous
    isFirst = false
    return true
  }

  private func state(in snapshot: StoredSnapshot) throws -> PageState {
    let reader = connection.reader
    guard try reader.isRAM(pfn, in: snapshot) else { return .outside }
    if let digest = try reader.digest(at: pfn, of: snapshot) { return .stored(digest) }
    return try reader.isAbsent(pfn, in: snapshot) ? .absent : .zero
  }

  func column(_ index: Int) throws -> SQLValue {
    switch index {
    case 0: .integer(try snapshots.integer(0))
    case 1: .text(try snapshots.text(1))
    case 2: .text(try snapshots.text(StoredSnapshot.columnCount))
    case 3:
      switch state {
      case .outside: .text("no-ram")
      case .absent: .text("absent")
      case .zero: .text("zero")
      case .stored: .text("stored")
      }
    case 4: .integer(hasChanged ? 1 : 0)
    default:
      if case .stored(let digest) = state { .text(digest.description) } else { .null }
    }
  }
}
