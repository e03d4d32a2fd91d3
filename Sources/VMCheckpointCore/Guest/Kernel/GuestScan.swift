/// Goes through a guest's pages for the places where a Linux kernel describes itself.
///
/// Everything that it finds may be a fake, or a copy in a process's memory: who uses it checks it.
struct GuestScan {
  private(set) var infoPages: [UInt64] = []
  private(set) var tokenIndexes: [UInt64] = []
  private(set) var typeHeaders: [UInt64] = []

  /// More places of one kind are not looked at.
  private static let maximumCount = 64
  /// Less type information than this no kernel has. (A module's has little.)
  private static let minimumTypesByteCount = 100_000

  /// Looks at the pages from `pfn` on.
  ///
  /// - Returns: The page after the one at which types and symbols could be tried because one of both is new; `nil`
  ///   after the last page.
  mutating func run(_ ram: some GuestRAM, from pfn: UInt64) throws -> UInt64? {
    var scan = self
    var next: UInt64?
    var visited = 0
    try ram.visitPages(from: pfn) { pfn, page in
      visited += 1
      if visited & 0x3fff == 0 { try ram.poll() }
      let isNew = try scan.look(ram, pfn, page)
      if isNew, !scan.tokenIndexes.isEmpty, !scan.typeHeaders.isEmpty { next = pfn + 1 }
      return next == nil
    }
    self = scan
    return next
  }

  /// Whether the page has a place of symbols or types.
  @inline(__always)
  private mutating func look(
    _ ram: some GuestRAM,
    _ pfn: UInt64,
    _ page: UnsafeRawPointer
  ) throws -> Bool {
    let gpa = pfn << UInt64(Page.shift)
    var isNew = false
    if VMCoreInfo.isBeginning(page), infoPages.count < Self.maximumCount { infoPages.append(gpa) }
    let words = page.assumingMemoryBound(to: UInt32.self)
    for index in 0..<(Page.byteCount / 4) {
      let word = UInt32(littleEndian: words[index])
      // An index of tokens: 0, then 2 to 127. A header: its magic number.
      if word & 0xffff == 0 {
        guard word &- 0x2_0000 < 0x7e_0000, TokenTable.mayBegin(page, at: index * 4) else {
          continue
        }
        guard tokenIndexes.count < Self.maximumCount else { continue }
        let place = gpa + UInt64(index * 4)
        // At a page's end little shows: the next page decides.
        guard
          try index * 4 <= Page.byteCount - TokenTable.indexByteCount
            || TokenTable(ram, indexAt: place) != nil
        else { continue }
        tokenIndexes.append(place)
        isNew = true
      } else if word == 0x0001_eb9f {
        let place = gpa + UInt64(index * 4)
        guard typeHeaders.count < Self.maximumCount,
          let header = try ram.bytes(place, count: BTF.headerByteCount),
          header.withUnsafeBytes({ Self.isKernelTypes($0) })
        else { continue }
        typeHeaders.append(place)
        isNew = true
      }
    }
    return isNew
  }

  private static func isKernelTypes(_ header: UnsafeRawBufferPointer) -> Bool {
    BTF.byteCount(header) != nil
      && UInt32(littleEndian: header.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
        > UInt32(minimumTypesByteCount)
  }
}
