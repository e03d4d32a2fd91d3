import VMCheckpointCore

extension TableFunction {
  /// `guest_page(snapshot)`: a row for each page frame of RAM.
  static var guestPage: TableFunction {
    TableFunction(
      help: FunctionHelp(
        "guest_page",
        ["snapshot"],
        kind: .table,
        returns: "rows",
        "a row for each page of RAM: what the guest's kernel uses it for, whose it is, of which file"
      ),
      columns: [
        "pfn INTEGER", "class TEXT", "owner TEXT", "pid INTEGER", "va INTEGER", "file TEXT",
        "page_index INTEGER", "flags TEXT", "refs INTEGER",
      ],
      hiddenColumns: ["note TEXT"],
      keyColumn: 0,
      // In a join the other table of pages goes first: to ask for one frame costs nothing here.
      typicalRowCount: 1 << 20
    ) { connection, query in
      let snapshot = try connection.snapshot(SnapshotSelector(query.arguments[0]!))
      guard let range = query.range.pfns else { return EmptyCursor() }
      return GuestPageCursor(try GuestFrames(connection, snapshot, "guest_page"), range)
    }
  }
}

/// Whose frames a snapshot's are, for tables.
final class GuestFrames {
  let kernel: GuestKernel
  let table: FrameTable

  init(_ connection: Connection, _ snapshot: StoredSnapshot, _ name: String) throws {
    let guest = try connection.guests.guest(snapshot)
    kernel = try connection.guests.kernel(of: guest, snapshot)
    do {
      table = try guest.frames(kernel)
    } catch let fault as GuestFault {
      throw SQLError.misuse("\(name): \(snapshot.title): \(fault)")
    }
  }

  /// The owner's name, its process, and its file.
  func owner(_ ordinal: Int) -> FrameOwner { table.wholeOwner(ordinal) }
}

private final class GuestPageCursor: TableCursor {
  private let frames: GuestFrames
  private let last: UInt64
  private var nextPFN: UInt64
  private var firstPFN: UInt64?
  private var pfn: UInt64 = 0
  private var ordinal = 0
  private var owner: FrameOwner?
  private var details: (references: Int32, flags: String, index: UInt64)??

  init(_ frames: GuestFrames, _ range: ClosedRange<UInt64>) {
    self.frames = frames
    nextPFN = range.lowerBound
    last = range.upperBound
  }

  func next() throws -> Bool {
    guard let pfn = frames.table.frame(from: nextPFN), pfn <= last,
      let ordinal = frames.table.ordinal(pfn)
    else { return false }
    if pfn & 0xffff == 0 { try frames.kernel.ram.poll() }
    self.pfn = pfn
    firstPFN = firstPFN ?? pfn
    self.ordinal = ordinal
    owner = nil
    details = nil
    nextPFN = pfn + 1
    return true
  }

  func column(_ index: Int) throws -> SQLValue {
    switch index {
    case 0: return .integer(Int64(pfn))
    case 1: return .text(frames.table.frameClass(ordinal).name)
    case 2: return .string(readOwner().name)
    case 3: return .number(readOwner().pid)
    case 4: return .bits(frames.table.mapping(ordinal)?.va)
    case 5: return .string(readOwner().file)
    case 6:
      guard frames.table.frameClass(ordinal) == .file else { return .null }
      return .bits(try readDetails()?.index)
    case 7: return .string(try readDetails()?.flags)
    case 8: return .number(try readDetails().map { Int64($0.references) })
    // Of the whole table: on the first row of a question, and not on a quarter of a million.
    default: return pfn == firstPFN ? .string(frames.table.note) : .null
    }
  }

  private func readOwner() -> FrameOwner {
    if let owner { return owner }
    let found = frames.owner(ordinal)
    owner = found
    return found
  }

  private func readDetails() throws -> (references: Int32, flags: String, index: UInt64)? {
    if let details { return details }
    frames.kernel.begin()
    let found = try frames.table.details(pfn)
    details = .some(found)
    return found
  }
}
