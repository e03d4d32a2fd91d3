/// Where a kernel's `struct page` has what says how its frame is used, in whichever way the version has it.
struct PageStructure {
  let byteCount: Int
  let base: UInt64
  /// The frame of the array's first entry.
  let firstPFN: UInt64

  private let flags: Int
  private let mapping: Int
  private let privateWord: Int
  private let index: Int
  private let typeWord: Int
  private let referenceCount: Int
  private let head: Int
  private let slabCache: Int
  /// From 7.x on a tail's word is a mask that makes its head's address of its own.
  private let isHeadMask: Bool

  private let buddy: PageType
  private let table: PageType
  private let slab: PageType?
  private let slabFlag: UInt64
  private let largeKmalloc: PageType?
  private let reservedFlag: UInt64
  /// Flags' names by bit.
  let flagNames: [(bit: UInt64, name: String)]

  /// How a type is told from the word that otherwise counts mappings.
  struct PageType {
    var mask: UInt32
    var value: UInt32

    @inline(__always)
    func matches(_ word: UInt32) -> Bool { word & mask == value }
  }

  /// An entry of the page array.
  struct Entry {
    var flags: UInt64
    var mapping: UInt64
    var privateWord: UInt64
    var index: UInt64
    var typeWord: UInt32
    var referenceCount: Int32
    var head: UInt64
    var slabCache: UInt64

    @inline(__always)
    var isTail: Bool { head & 1 != 0 }
  }

  init(_ kernel: GuestKernel) throws {
    let byteCount = try kernel.byteCount(of: "page")
    self.byteCount = byteCount
    guard (32...256).contains(byteCount) else {
      throw GuestFault.broken("a struct page has \(byteCount) bytes")
    }
    (base, firstPFN) = try Self.array(kernel, byteCount)
    func offset(_ path: String, or second: String? = nil) throws -> Int {
      try kernel.field("page", path, or: second).offset
    }
    flags = try offset("flags.f", or: "flags")
    mapping = try offset("mapping")
    privateWord = try offset("private")
    index = try offset("index", or: "__folio_index")
    typeWord = try offset("_mapcount", or: "page_type")
    referenceCount = try offset("_refcount")
    head = try offset("compound_head", or: "compound_info")
    isHeadMask = !kernel.has("page", "compound_head")
    slabCache = try
      (kernel.has("slab", "slab_cache")
      ? kernel.field("slab", "slab_cache") : kernel.field("page", "slab_cache")).offset
    let places = [flags, mapping, privateWord, index, head, slabCache]
    guard places.allSatisfy({ $0 + 8 <= byteCount }), typeWord + 4 <= byteCount,
      referenceCount + 4 <= byteCount
    else { throw GuestFault.broken("a struct page has members behind its end") }

    let constant = kernel.types.constant
    if let buddyType = constant("PGTY_buddy") {
      // From 6.12 on a number in the highest byte.
      func type(_ number: Int64) -> PageType {
        PageType(mask: 0xff00_0000, value: UInt32(truncatingIfNeeded: number) << 24)
      }
      buddy = type(buddyType)
      table = type(constant("PGTY_table") ?? 0xff)
      slab = constant("PGTY_slab").map(type)
      largeKmalloc = constant("PGTY_large_kmalloc").map(type)
    } else {
      // Before, a bit that is clear below bits that are set.
      let base = UInt32(truncatingIfNeeded: constant("PAGE_TYPE_BASE") ?? 0xf000_0000)
      func type(_ bit: Int64) -> PageType {
        PageType(mask: base | UInt32(truncatingIfNeeded: bit), value: base)
      }
      buddy = type(constant("PG_buddy") ?? 0x80)
      // A type that 5.11 removed stood before.
      table = type(constant("PG_table") ?? (kernel.has("page", "mem_cgroup") ? 0x400 : 0x200))
      slab = constant("PG_slab").flatMap { $0 > 63 ? type($0) : nil }
      largeKmalloc = nil
    }
    slabFlag = Self.flag(constant("PG_slab"))
    reservedFlag = Self.flag(constant("PG_reserved"))
    flagNames = [
      "locked", "referenced", "uptodate", "dirty", "lru", "active", "workingset", "waiters",
      "error", "slab", "reserved", "private", "writeback", "head", "reclaim", "swapbacked",
      "unevictable", "mlocked", "hwpoison", "young", "idle",
    ].compactMap { name in
      let bit = Self.flag(constant("PG_" + name))
      return bit == 0 ? nil : (bit, name)
    }
  }

  private static func flag(_ number: Int64?) -> UInt64 {
    guard let number, (0..<32).contains(number) else { return 0 }
    return 1 << UInt64(number)
  }

  /// Where the array is.
  private static func array(
    _ kernel: GuestKernel,
    _ byteCount: Int
  ) throws -> (base: UInt64, firstPFN: UInt64) {
    switch kernel.pageTables.architecture {
    case .x86:
      if let place = kernel.symbols.address(of: "vmemmap_base") {
        return (try kernel.u64(place), 0)
      }
      // Without KASLR of memory these are fixed.
      return (
        kernel.pageTables.levelCount == 4 ? 0xffff_ea00_0000_0000 : 0xffd4_0000_0000_0000, 0
      )
    case .arm64:
      let info = try kernel.info()
      guard let start = info?.number("VMEMMAP_START"), let offset = info?.number("PHYS_OFFSET")
      else { throw GuestFault.broken("VMCOREINFO does not say where the page array is") }
      return (start, offset >> UInt64(Page.shift))
    }
  }

  /// The virtual address of a frame's entry.
  func address(_ pfn: UInt64) -> UInt64 {
    base &+ (pfn &- firstPFN) &* UInt64(byteCount)
  }

  @inline(__always)
  func entry(_ bytes: UnsafeRawPointer) -> Entry {
    func word(_ offset: Int) -> UInt64 {
      UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
    func half(_ offset: Int) -> UInt32 {
      UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
    return Entry(
      flags: word(flags),
      mapping: word(mapping),
      privateWord: word(privateWord),
      index: word(index),
      typeWord: half(typeWord),
      referenceCount: Int32(bitPattern: half(referenceCount)),
      head: word(head),
      slabCache: word(slabCache)
    )
  }

  /// The frame of a tail's head; `nil` when the entry cannot be a tail.
  @inline(__always)
  func headPFN(_ entry: Entry, _ pfn: UInt64) -> UInt64? {
    let head = isHeadMask ? address(pfn) & entry.head : entry.head & ~1
    guard head >= base else { return nil }
    let number = (head - base) / UInt64(byteCount) &+ firstPFN
    // A compound page has at most 1 GiB.
    return number <= pfn && pfn - number < 1 << 18 ? number : nil
  }

  @inline(__always)
  func isBuddy(_ entry: Entry) -> Bool { buddy.matches(entry.typeWord) }
  @inline(__always)
  func isTable(_ entry: Entry) -> Bool { table.matches(entry.typeWord) }
  @inline(__always)
  func isReserved(_ entry: Entry) -> Bool { entry.flags & reservedFlag != 0 }
  @inline(__always)
  func isLargeKmalloc(_ entry: Entry) -> Bool { largeKmalloc?.matches(entry.typeWord) == true }
  @inline(__always)
  func isSlab(_ entry: Entry) -> Bool {
    if let slab { return slab.matches(entry.typeWord) }
    return entry.flags & slabFlag != 0
  }
}
