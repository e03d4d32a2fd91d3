/// A guest's Linux kernel, found in its RAM: symbols, types and address translation that agree with each other.
///
/// Reading members of its structures is what walks are made of (``u64(_:_:_:or:)`` and its like). Each read
/// counts against a budget, so that a query ends whatever the guest's memory says. What is broken is noted, and
/// ``takeNotes()`` hands the notes over.
///
/// A guest can lie: this is what its kernel's memory says.
package final class GuestKernel {
  package let ram: any GuestRAM
  package let symbols: KernelSymbols
  package let types: BTF
  /// Where the type information is, and how long.
  package let typesRange: Range<UInt64>
  package let pageTables: PageTables
  /// Virtual addresses of the kernel's image, each of which is its place in RAM + ``imageOffset``.
  package let image: Range<UInt64>
  package let imageOffset: UInt64
  /// Where the kernel's own top page table is.
  package let root: UInt64
  /// Where all of RAM is mapped in one piece, if that is known.
  let directMap: Range<UInt64>?
  /// What per-CPU addresses of each processor lack.
  package let perCPUOffsets: [UInt64]
  package let release: String
  /// What the kernel says to crash dumps, where it was found before the kernel was.
  private let foundInfo: VMCoreInfo?

  /// What was found to be broken since ``begin()``.
  package private(set) var notes: [String] = []
  /// How many more there were.
  private var leftOutNoteCount = 0
  private var readCount = 0
  private var loadCount = 0
  private var translations: TranslationCache

  /// How many reads a query may make: more where there is more RAM, which has room for more objects.
  /// Pointers that a small guest made to lead in circles so cost less than two seconds.
  private let readLimit: Int
  private static let readLimitOfAny = 5_000_000
  private static let readLimitPerGiB = 2_000_000
  /// A layout is a claim: RAM above this adds no reads.
  private static let readLimitGiBCount: UInt64 = 32
  /// As how many reads it counts to get pages from the store.
  private static let readsOfLoad = 256
  private static let noteLimit = 64

  init(
    ram: any GuestRAM,
    symbols: KernelSymbols,
    types: BTF,
    typesRange: Range<UInt64>,
    pageTables: PageTables,
    image: Range<UInt64>,
    imageOffset: UInt64,
    root: UInt64,
    directMap: Range<UInt64>?,
    perCPUOffsets: [UInt64],
    release: String,
    info: VMCoreInfo?
  ) {
    self.ram = ram
    self.symbols = symbols
    self.types = types
    self.typesRange = typesRange
    self.pageTables = pageTables
    self.image = image
    self.imageOffset = imageOffset
    self.root = root
    self.directMap = directMap
    self.perCPUOffsets = perCPUOffsets
    self.release = release
    foundInfo = info
    translations = TranslationCache()
    let gibCount = min(ram.layout.byteCount >> 30, Self.readLimitGiBCount)
    readLimit = Self.readLimitOfAny + Self.readLimitPerGiB * Int(gibCount)
  }

  /// Begins a query: nothing is noted, and its budget is whole.
  package func begin() {
    notes = []
    leftOutNoteCount = 0
    renewBudget()
  }

  /// Notes what is wrong, and goes on.
  package func note(_ text: @autoclosure () -> String) {
    if notes.count < Self.noteLimit { notes.append(text()) } else { leftOutNoteCount += 1 }
  }

  /// What was noted since the last call, as one text; `nil` where nothing was.
  package func takeNotes() -> String? {
    guard !notes.isEmpty else { return nil }
    defer {
      notes = []
      leftOutNoteCount = 0
    }
    let rest = leftOutNoteCount > 0 ? ["and \(leftOutNoteCount) more like these"] : []
    return (notes + rest).joined(separator: "; ")
  }

  /// Gives a query its whole budget again, where something else bounds it.
  func renewBudget() {
    readCount = 0
    loadCount = ram.loadCount
  }

  /// Counts a read.
  ///
  /// - Throws: ``VMCheckpointError`` when the query has had its budget; what ``GuestRAM/poll()`` throws.
  @inline(__always)
  func countRead() throws {
    readCount &+= 1
    if readCount & 0xfff == 0 { try checkBudget() }
  }

  private func checkBudget() throws {
    try ram.poll()
    guard readCount + (ram.loadCount - loadCount) * Self.readsOfLoad < readLimit else {
      throw VMCheckpointError(
        .invalidData,
        "the guest's kernel memory has no end: \(readLimit) reads were not enough",
        hint: "it is damaged, or made to keep readers busy"
      )
    }
  }

  /// For RAM that changes, which snapshots do not.
  package func forgetTranslations() { translations = TranslationCache() }

  // MARK: Addresses

  /// The guest-physical address of a kernel's virtual address.
  ///
  /// - Throws: ``GuestFault`` when it has none.
  package func translate(_ va: UInt64) throws -> UInt64 {
    try countRead()
    if image.contains(va) { return va &- imageOffset }
    if let directMap, directMap.contains(va) { return va - directMap.lowerBound }
    guard va >> 56 == 0xff else { throw GuestFault.notKernel(va) }
    let number = va >> UInt64(Page.shift)
    if let gpa = translations.find(number) { return gpa | va & 0xfff }
    guard let gpa = try pageTables.translate(va, root: root, in: ram) else {
      throw GuestFault.notMapped(va)
    }
    translations.insert(number, gpa & ~0xfff)
    return gpa
  }

  /// What the kernel says to crash dumps, if it can be read.
  package func info() throws -> VMCoreInfo? {
    if let foundInfo { return foundInfo }
    guard let pointer = symbols.address(of: "vmcoreinfo_data") else { return nil }
    do {
      let gpa = try translate(u64(pointer))
      guard gpa & 0xfff == 0, let page = try ram.page(gpa >> UInt64(Page.shift)),
        VMCoreInfo.isBeginning(page)
      else { return nil }
      return VMCoreInfo(page)
    } catch is GuestFault {
      return nil
    }
  }

  /// The virtual address of a kernel's symbol.
  package func symbol(_ name: String) throws -> UInt64 {
    guard let address = symbols.address(of: name) else { throw GuestFault.noSymbol(name) }
    return address
  }
}

/// Translations of pages, each kept until another takes its place.
struct TranslationCache {
  private static let count = 4096
  private var entries = [(page: UInt64, gpa: UInt64)](repeating: (.max, 0), count: Self.count)

  @inline(__always)
  func find(_ page: UInt64) -> UInt64? {
    let entry = entries[Int(truncatingIfNeeded: page) & (Self.count - 1)]
    return entry.page == page ? entry.gpa : nil
  }

  mutating func insert(_ page: UInt64, _ gpa: UInt64) {
    entries[Int(truncatingIfNeeded: page) & (Self.count - 1)] = (page, gpa)
  }
}
