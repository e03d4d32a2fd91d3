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
    for block in stride(from: 0, to: Page.byteCount / 4, by: Self.blockWordCount)
    where Self.mayHoldPlace(words + block) {
      for index in block..<(block + Self.blockWordCount)
      where try look(ram, gpa, page, at: index, UInt32(littleEndian: words[index])) {
        isNew = true
      }
    }
    return isNew
  }

  /// How many words are looked at together.
  private static let blockWordCount = 64
  /// A header of types begins so.
  private static let typesMagic: UInt32 = 0x0001_eb9f

  /// Whether a word is like the beginning of an index of tokens: 0, then 2 to 127, of two bytes each.
  @inline(__always)
  private static func mayBeginIndex(_ word: UInt32) -> Bool {
    (word << 16 | word >> 16) &- 2 < 126
  }

  /// Whether one of the next words is like a beginning: as ``mayBeginIndex(_:)`` and ``typesMagic`` have it, in
  /// arithmetic alone, which the compiler does for several words at once. Hardly any is.
  @inline(__always)
  private static func mayHoldPlace(_ words: UnsafePointer<UInt32>) -> Bool {
    var signs: UInt32 = 0
    for index in 0..<blockWordCount {
      let word = UInt32(littleEndian: words[index])
      signs |= signIfLess((word << 16 | word >> 16) &- 2, than: 126)
      signs |= signIfLess(word ^ typesMagic, than: 1)
    }
    return signs >> 31 != 0
  }

  /// A number whose upper bit is 1 exactly when `value` is less than `limit`, which has an upper bit of 0.
  @inline(__always)
  private static func signIfLess(_ value: UInt32, than limit: UInt32) -> UInt32 {
    (value &- limit) & ~value
  }

  /// Whether the page's word at `index` begins symbols or types.
  private mutating func look(
    _ ram: some GuestRAM,
    _ gpa: UInt64,
    _ page: UnsafeRawPointer,
    at index: Int,
    _ word: UInt32
  ) throws -> Bool {
    let place = gpa + UInt64(index * 4)
    if Self.mayBeginIndex(word) {
      // At a page's end little shows: the next page decides.
      guard TokenTable.mayBegin(page, at: index * 4), tokenIndexes.count < Self.maximumCount,
        try index * 4 <= Page.byteCount - TokenTable.indexByteCount
          || TokenTable(ram, indexAt: place) != nil
      else { return false }
      tokenIndexes.append(place)
      return true
    }
    guard word == Self.typesMagic, typeHeaders.count < Self.maximumCount,
      let header = try ram.bytes(place, count: BTF.headerByteCount),
      header.withUnsafeBytes({ Self.isKernelTypes($0) })
    else { return false }
    typeHeaders.append(place)
    return true
  }

  private static func isKernelTypes(_ header: UnsafeRawBufferPointer) -> Bool {
    BTF.byteCount(header) != nil
      && UInt32(littleEndian: header.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
        > UInt32(minimumTypesByteCount)
  }
}
