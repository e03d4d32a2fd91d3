import CSQLiteExtension
import VMCheckpointCore

/// Functions that read a guest's memory.
extension ScalarFunction {
  static var pageFunctions: [ScalarFunction] {
    [pageData, pageView, ramRead]
  }

  private static var pageData: ScalarFunction {
    ScalarFunction("page_data") { connection, arguments in
      let snapshot = try connection.snapshot(SnapshotSelector(arguments[0]))
      let pfn = try arguments[1].pfn()
      guard try connection.isRAM(pfn, in: snapshot) else { return .null }
      return try connection.withPage(at: pfn, of: snapshot) {
        $0.map { .blob(copying: $0) } ?? .blob(PageContents.zero.bytes)
      }
    }
  }

  private static var pageView: ScalarFunction {
    ScalarFunction("page_view") { connection, arguments in
      let snapshot = try connection.snapshot(SnapshotSelector(arguments[0]))
      let pfn = try arguments[1].pfn()
      guard try connection.isRAM(pfn, in: snapshot) else { return .null }
      // Under a baked overlay RAM has its bytes, as the guest saw them.
      if let (overlay, isBaked) = try connection.activeOverlay(at: pfn, of: snapshot), !isBaked {
        return .blob(overlay.contents().bytes)
      }
      return try connection.withPage(at: pfn, of: snapshot) {
        $0.map { .blob(copying: $0) } ?? .blob(PageContents.zero.bytes)
      }
    }
  }

  private static var ramRead: ScalarFunction {
    ScalarFunction("ram_read") { connection, arguments in
      let snapshot = try connection.snapshot(SnapshotSelector(arguments[0]))
      let gpa = try arguments[1].bits()
      let limit = Int64(vmx_length_limit(connection.database))
      let length = try arguments[2].integer(in: 0...limit)
      guard length > 0 else { return .blob([]) }
      let (last, overflows) = gpa.addingReportingOverflow(UInt64(length - 1))
      let layout = try connection.layout(of: snapshot)
      guard !overflows, layout.isRAM(from: PFN(gpa: gpa), through: PFN(gpa: last)) else {
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

extension RAMLayout {
  /// Whether all pages from `first` to `last` are RAM, in one region or in several that touch.
  func isRAM(from first: PFN, through last: PFN) -> Bool {
    var next = first
    while let region = region(holding: next) {
      let end = region.endGPA >> UInt64(Page.shift)
      if end > last.rawValue { return true }
      next = PFN(unchecked: end)
    }
    return false
  }
}

extension Connection {
  /// Fills `destination` with bare RAM. All of it is RAM.
  fileprivate func copyRAM(
    from gpa: UInt64,
    of snapshot: SnapshotRow,
    to destination: UnsafeMutableRawBufferPointer
  ) throws {
    var offset = 0
    while offset < destination.count {
      let address = gpa + UInt64(offset)
      let pageOffset = Int(address & UInt64(Page.byteCount - 1))
      let count = min(Page.byteCount - pageOffset, destination.count - offset)
      let target = destination.baseAddress! + offset
      try withPage(at: PFN(gpa: address), of: snapshot) { page in
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
