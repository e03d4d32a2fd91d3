import VMCheckpointCore

extension TableFunction {
  /// `guest_struct(snapshot)`: a row for each structure of the kernel and for each of its members.
  static var guestStruct: TableFunction {
    TableFunction(
      help: FunctionHelp(
        "guest_struct",
        ["snapshot"],
        kind: .table,
        returns: "rows",
        "a row for each structure of the guest's kernel, and for each of its members: offset, bits, size"
      ),
      columns: [
        "type TEXT", "member TEXT", "offset INTEGER", "bit_offset INTEGER", "bits INTEGER",
        "size INTEGER", "member_type TEXT",
      ],
      typicalRowCount: 1 << 17
    ) { connection, query in
      let snapshot = try connection.snapshot(SnapshotSelector(query.arguments[0]!))
      return GuestStructCursor(try connection.guests.kernel(snapshot))
    }
  }
}

private final class GuestStructCursor: TableCursor {
  private var members: BTFMemberIterator
  private var row: BTFMemberIterator.Row?

  init(_ kernel: GuestKernel) { members = BTFMemberIterator(kernel.types) }

  func next() -> Bool {
    row = members.next()
    return row != nil
  }

  func column(_ index: Int) -> SQLValue {
    guard let row else { return .null }
    return switch index {
    case 0: .text(row.structure)
    case 1: .string(row.member)
    case 2: .number(row.offset.map(Int64.init))
    case 3: .number(row.bitOffset.map(Int64.init))
    case 4: .number(row.bitCount.map(Int64.init))
    case 5: .integer(Int64(row.byteCount))
    default: .text(row.memberType)
    }
  }
}
