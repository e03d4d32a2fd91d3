import CSQLiteExtension
import VMCheckpointCore

extension TableFunction {
  /// `ram_search(snapshot, pattern [, alignment])`: a row for each place that holds the pattern.
  static var ramSearch: TableFunction {
    TableFunction(
      help: FunctionHelp(
        "ram_search",
        ["snapshot", "pattern"],
        optional: ["alignment"],
        kind: .table,
        returns: "rows",
        "a row for each place in bare RAM that holds the text or BLOB"
      ),
      columns: ["gpa INTEGER", "pfn INTEGER", "context TEXT"],
      keyColumn: 0,
      typicalRowCount: 1 << 16
    ) { connection, query in
      let pattern = try query.arguments[1]!.withBytes { Array($0) }
      guard (1...RAMSearch.maximumPatternByteCount).contains(pattern.count) else {
        throw SQLError.misuse(
          "ram_search: a pattern has 1 to \(RAMSearch.maximumPatternByteCount) bytes"
        )
      }
      guard pattern.contains(where: { $0 != 0 }) else {
        throw SQLError.misuse("ram_search: zeros alone are everywhere; ask ram_page for zero pages")
      }
      var alignment: Int64 = 1
      if let argument = query.arguments[2], !argument.isNull {
        alignment = try argument.integer(in: 1...Int64(RAMSearch.maximumAlignment))
        guard alignment & (alignment - 1) == 0 else {
          throw SQLError.misuse("ram_search: alignment must be a power of two")
        }
      }
      let snapshot = try connection.snapshot(SnapshotSelector(query.arguments[0]!))
      let reach = UInt64(pattern.count + RAMSearch.contextByteCount)
      guard let pfns = query.range.pfns(before: reach, after: reach) else { return EmptyCursor() }
      return RAMSearchCursor(
        RAMSearch(
          try RAMStream(connection, snapshot, pfns: pfns),
          pattern: pattern,
          alignment: UInt64(alignment)
        )
      )
    }
  }
}

private final class RAMSearchCursor: TableCursor {
  private let search: RAMSearch
  private var hit = RAMSearch.Hit(gpa: 0, offset: 0)

  init(_ search: RAMSearch) { self.search = search }

  func next() throws -> Bool {
    guard let hit = try search.next() else { return false }
    self.hit = hit
    return true
  }

  func column(_ index: Int) -> SQLValue {
    switch index {
    case 0: .integer(Int64(hit.gpa))
    case 1: .integer(Int64(hit.gpa >> UInt64(Page.shift)))
    default: .text(search.context(of: hit))
    }
  }
}
