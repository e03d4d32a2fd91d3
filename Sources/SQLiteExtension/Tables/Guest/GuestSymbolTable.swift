import VMCheckpointCore

extension TableFunction {
  /// `guest_symbol(snapshot)`: a row for each symbol of the kernel, as /proc/kallsyms has them.
  static var guestSymbol: TableFunction {
    TableFunction(
      help: FunctionHelp(
        "guest_symbol",
        ["snapshot"],
        kind: .table,
        returns: "rows",
        "a row for each symbol of the guest's kernel: its address, and where that is in RAM"
      ),
      columns: ["name TEXT", "type TEXT", "va INTEGER", "gpa INTEGER"],
      typicalRowCount: 1 << 17
    ) { connection, query in
      let snapshot = try connection.snapshot(SnapshotSelector(query.arguments[0]!))
      return GuestSymbolCursor(try connection.guests.kernel(snapshot))
    }
  }
}

private final class GuestSymbolCursor: TableCursor {
  private let kernel: GuestKernel
  private var symbols: KallsymsIterator
  private var row: (type: UInt8, name: String, address: UInt64, isNumber: Bool) = (0, "", 0, false)

  init(_ kernel: GuestKernel) {
    self.kernel = kernel
    symbols = KallsymsIterator(kernel.symbols.kallsyms)
  }

  func next() -> Bool {
    guard let row = symbols.next() else { return false }
    self.row = row
    return true
  }

  func column(_ index: Int) throws -> SQLValue {
    switch index {
    case 0: return .text(row.name)
    case 1: return .text(String(UnicodeScalar(row.type)))
    case 2: return .bits(row.address)
    default:
      guard !row.isNumber else { return .null }
      return kernel.image.contains(row.address) ? .bits(row.address &- kernel.imageOffset) : .null
    }
  }
}
