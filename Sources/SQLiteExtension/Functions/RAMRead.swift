import CSQLiteExtension
import VMCheckpointCore

extension ScalarFunction {
  static var ramRead: ScalarFunction {
    ScalarFunction(
      FunctionHelp(
        "ram_read",
        ["snapshot", "gpa", "length"],
        returns: "BLOB",
        "bare RAM from a guest-physical address on; NULL where any of it is not RAM, or absent"
      )
    ) { connection, arguments in
      let snapshot = try connection.snapshot(SnapshotSelector(arguments[0]))
      let gpa = try arguments[1].bits()
      let limit = Int64(vmx_length_limit(connection.database))
      let length = try arguments[2].integer(in: 0...limit)
      guard length > 0 else { return .blob([]) }
      let (last, overflows) = gpa.addingReportingOverflow(UInt64(length - 1))
      let layout = try connection.reader.layout(of: snapshot)
      guard !overflows, layout.isRAM(from: PFN(gpa: gpa), through: PFN(gpa: last)) else {
        return .null
      }
      let (first, end) = (PFN(gpa: gpa), PFN(gpa: last))
      guard try !connection.reader.isAnyAbsent(from: first, through: end, in: snapshot) else {
        return .null
      }
      guard let memory = vmx_malloc(length) else {
        throw SQLError(code: SQLITE_NOMEM, message: "out of memory")
      }
      do {
        let destination = UnsafeMutableRawBufferPointer(start: memory, count: Int(length))
        try connection.copyRAM(from: gpa, of: snapshot, to: destination)
      } catch {
        vmx_free(memory)
        throw error
      }
      return .ownedBlob(memory, byteCount: Int(length))
    }
  }
}

extension Connection {
  /// Fills `destination` with bare RAM. All of it is RAM.
  fileprivate func copyRAM(
    from gpa: UInt64,
    of snapshot: StoredSnapshot,
    to destination: UnsafeMutableRawBufferPointer
  ) throws {
    var offset = 0
    while offset < destination.count {
      let address = gpa + UInt64(offset)
      let pageOffset = Int(address & UInt64(Page.byteCount - 1))
      let count = min(Page.byteCount - pageOffset, destination.count - offset)
      let target = destination.baseAddress! + offset
      try reader.withPage(at: PFN(gpa: address), of: snapshot) { page in
        if let page {
          target.copyMemory(from: page.baseAddress! + pageOffset, byteCount: count)
        } else {
          target.initializeMemory(as: UInt8.self, repeating: 0, count: count)
        }
      }
      offset += count
    }
  }
}
