import VMCheckpointCore

extension TableFunction {
  /// `guest_change(a, b)`: a row of `ram_diff`, and whose the page was and is.
  static var guestChange: TableFunction {
    TableFunction(
      help: FunctionHelp(
        "guest_change",
        ["a", "b"],
        kind: .table,
        returns: "rows",
        "a row for each page that changed from a to b: whose it was and whose it is"
      ),
      columns: [
        "pfn INTEGER", "change TEXT", "different_bytes INTEGER", "class_before TEXT", "class TEXT",
        "owner_before TEXT", "owner TEXT", "pid_before INTEGER", "pid INTEGER", "file_before TEXT",
        "file TEXT", "page_index INTEGER",
      ],
      hiddenColumns: ["note TEXT"],
      keyColumn: 0,
      typicalRowCount: 1 << 15
    ) { connection, query in
      let a = try connection.snapshot(SnapshotSelector(query.arguments[0]!))
      let b = try connection.snapshot(SnapshotSelector(query.arguments[1]!))
      guard let range = query.range.pfns else { return EmptyCursor() }
      let before = try GuestFrames(connection, a, "guest_change")
      let after = try GuestFrames(connection, b, "guest_change")
      return GuestChangeCursor(try RAMDiffCursor(connection, a, b, range), before, after)
    }
  }
}

private final class GuestChangeCursor: TableCursor {
  private let changes: RAMDiffCursor
  private let before: GuestFrames
  private let after: GuestFrames
  private var firstPFN: UInt64?

  init(_ changes: RAMDiffCursor, _ before: GuestFrames, _ after: GuestFrames) {
    self.changes = changes
    self.before = before
    self.after = after
  }

  func next() throws -> Bool {
    guard try changes.next() else { return false }
    firstPFN = firstPFN ?? changes.pfn
    return true
  }

  func column(_ index: Int) throws -> SQLValue {
    switch index {
    case 0: try changes.column(0)
    case 1: try changes.column(2)
    case 2: try changes.column(3)
    case 3: frameClass(before)
    case 4: frameClass(after)
    case 5: .string(owner(before)?.name)
    case 6: .string(owner(after)?.name)
    case 7: .number(owner(before)?.pid)
    case 8: .number(owner(after)?.pid)
    case 9: .string(owner(before)?.file)
    case 10: .string(owner(after)?.file)
    case 11: try pageIndex()
    // Of both tables of pages: on the first row of a question, as there.
    default: changes.pfn == firstPFN ? .string(note) : .null
    }
  }

  private var note: String? {
    let notes = [before, after].compactMap(\.table.note)
    return notes.isEmpty ? nil : notes.joined(separator: "; ")
  }

  private func frameClass(_ frames: GuestFrames) -> SQLValue {
    .string(frames.table.ordinal(changes.pfn).map { frames.table.frameClass($0).name })
  }

  private func owner(_ frames: GuestFrames) -> FrameOwner? {
    frames.table.ordinal(changes.pfn).map(frames.owner)
  }

  private func pageIndex() throws -> SQLValue {
    guard let ordinal = after.table.ordinal(changes.pfn),
      after.table.frameClass(ordinal) == .file
    else { return .null }
    after.kernel.begin()
    return .bits(try after.table.details(changes.pfn)?.index)
  }
}
