import Synchronization
import VMCheckpoint

/// Ranges of physical memory that come one after the other, each with its bytes: captures of LiME and AVML.
protocol RangeSource: AnyObject, Sendable {
  /// What messages call the source.
  var name: String { get }

  /// What to do about ranges that are not in order of their addresses.
  var orderHint: String { get }

  /// The next range, once all bytes of the one before it were read; `nil` at the end.
  ///
  /// - Throws: ``VMCheckpointError``, whose message goes on after the source's name when its code is
  ///   `invalidData`.
  func nextRange() throws(VMCheckpointError) -> PhysicalRange?

  /// The next bytes of the range.
  func read(into room: UnsafeMutableRawBufferPointer) throws(VMCheckpointError)

  /// Which parts of the addresses between two ranges are RAM of zeros; whole pages, ascending.
  func zeros(between ranges: Range<UInt64>) -> [Range<UInt64>]
}

/// A range of physical addresses in a capture.
struct PhysicalRange: Hashable {
  /// Counts from 1.
  var number: Int
  var addresses: Range<UInt64>

  /// For messages.
  var title: String { "range \(number) at GPA \(hexString(addresses.lowerBound))" }
}

/// Reads RAM from ranges that come in order of their addresses, once.
///
/// A range may begin or end inside a page; what no range has of such a page is zero. Windows are read by
/// whichever thread has the lock.
final class RangeReader: RAMReader {
  /// What is known of the source when all of it was read.
  struct Totals {
    /// Bytes of pages that no range has.
    var paddingByteCount: UInt64 = 0
    /// Bytes between ranges that count as zeros.
    var zeroByteCount: UInt64 = 0
  }

  private struct Position {
    var totals = Totals()
    /// The range that is being read, and what of it is still to come.
    var range: PhysicalRange?
    var rest: Range<UInt64> = 0..<0
    /// The addresses of the ranges so far; those that touch are one.
    var taken: [Range<UInt64>] = []
    /// Where the ranges so far end.
    var endGPA: UInt64 = 0
    /// A page of which a part was read.
    var partialPFN: UInt64?
    var partial = [UInt8](repeating: 0, count: Page.byteCount)
    var partialByteCount = 0
    /// Pages of zeros that are to be visited if they must be.
    var zeroPFNs: [Range<UInt64>] = []
    var keptIndex = 0
    var sequence = 0
    var isAtEnd = false
    /// Whole pages, as ranges of addresses.
    var memory: [Range<UInt64>] = []
  }

  private let source: any RangeSource
  /// PFNs that must be visited even where all is zero, ascending.
  private let keptPFNs: [UInt64]
  private let position = Mutex(Position())

  /// Known at the source's end alone.
  var totalByteCount: UInt64? { nil }

  init(_ source: any RangeSource, keptPFNs: [UInt64]) {
    self.source = source
    self.keptPFNs = keptPFNs
  }

  /// What was read, after the last window.
  var totals: Totals { position.withLock { $0.totals } }

  func finalLayout() throws(VMCheckpointError) -> RAMLayout {
    let memory = position.withLock { $0.memory }
    guard !memory.isEmpty else { throw .invalidData("\(source.name) holds no RAM") }
    do throws(VMCheckpointError) {
      return try LoadRegions.layout(LoadRegions.splitAt4GiB(memory), isX86: true)
    } catch {
      throw error.naming(source.name)
    }
  }

  func readWindow(into window: RAMWindow) throws(VMCheckpointError) -> Bool {
    try position.withLock { position throws(VMCheckpointError) in
      guard !position.isAtEnd else { return false }
      do throws(VMCheckpointError) {
        if try advance(&position, into: window) { return true }
        position.isAtEnd = true
        return false
      } catch {
        // Other threads must not go on to find something else wrong.
        position.isAtEnd = true
        throw error.code == .invalidData ? error.naming(source.name) : error
      }
    }
  }

  /// Reads up to the next window.
  ///
  /// - Returns: `false` at the end.
  private func advance(
    _ position: inout Position,
    into window: RAMWindow
  ) throws(VMCheckpointError) -> Bool {
    while true {
      if position.rest.isEmpty, try !beginRange(&position) {
        return try givePartial(&position, window)
      }
      // A page that a range before this one ended in, and that this one does not go on with.
      if let pfn = position.partialPFN, pfn != position.rest.lowerBound >> UInt64(Page.shift) {
        return try givePartial(&position, window)
      }
      if try visitZeros(&position, window) { return true }
      if try readPart(&position) {
        guard position.rest.lowerBound % UInt64(Page.byteCount) == 0 else { continue }
        return try givePartial(&position, window)
      }
      try readPages(&position, into: window)
      return true
    }
  }

  /// Takes the next range that is not empty.
  private func beginRange(_ position: inout Position) throws(VMCheckpointError) -> Bool {
    guard let range = try source.nextRange() else { return false }
    let addresses = range.addresses
    guard addresses.lowerBound >= position.endGPA else {
      // What a range has twice, no order makes right.
      if let overlap = position.taken.first(where: { $0.overlaps(addresses) }) {
        let gpa = max(overlap.lowerBound, addresses.lowerBound)
        throw .invalidData(
          "is damaged: \(range.title) and one before it both hold GPA \(hexString(gpa))"
        )
      }
      throw .invalidData(
        "cannot be read in one pass: \(range.title) begins before GPA \(hexString(position.endGPA)), where "
          + "the one before it ends",
        hint: source.orderHint
      )
    }
    if position.range != nil, addresses.lowerBound > position.endGPA {
      position.zeroPFNs = source.zeros(between: position.endGPA..<addresses.lowerBound).map {
        $0.lowerBound >> UInt64(Page.shift)..<$0.upperBound >> UInt64(Page.shift)
      }
    }
    if let last = position.taken.last, last.upperBound == addresses.lowerBound {
      position.taken[position.taken.count - 1] = last.lowerBound..<addresses.upperBound
    } else {
      position.taken.append(addresses)
    }
    position.range = range
    position.rest = addresses
    position.endGPA = addresses.upperBound
    return true
  }

  /// Reads what of the range is in one page and does not fill it.
  ///
  /// - Returns: `false` when the range goes on with a whole page.
  private func readPart(_ position: inout Position) throws(VMCheckpointError) -> Bool {
    let page = UInt64(Page.byteCount)
    let start = Int(position.rest.lowerBound % page)
    let count = Int(min(page - UInt64(start), UInt64(position.rest.count)))
    guard count < Page.byteCount else { return false }
    if position.partialPFN == nil {
      position.partialPFN = position.rest.lowerBound / page
      position.partial.resetBytes()
      position.partialByteCount = 0
    }
    let source = source
    try position.partial.withUnsafeMutableBytes { bytes in
      Result { () throws(VMCheckpointError) in
        try source.read(
          into: UnsafeMutableRawBufferPointer(rebasing: bytes[start..<(start + count)])
        )
      }
    }.get()
    position.partialByteCount += count
    position.rest = (position.rest.lowerBound + UInt64(count))..<position.rest.upperBound
    return true
  }

  /// Gives the page of which a part was read, if there is one.
  private func givePartial(
    _ position: inout Position,
    _ window: RAMWindow
  ) throws(VMCheckpointError) -> Bool {
    guard let pfn = position.partialPFN else { return false }
    position.partialPFN = nil
    position.totals.paddingByteCount += UInt64(Page.byteCount - position.partialByteCount)
    position.partial.withUnsafeBytes { window.page(0).copyMemory(from: $0) }
    try finish(window, &position, firstPFN: pfn, pageCount: 1)
    return true
  }

  /// Gives the next page of zeros between ranges that must be visited.
  private func visitZeros(
    _ position: inout Position,
    _ window: RAMWindow
  ) throws(VMCheckpointError) -> Bool {
    while let zeros = position.zeroPFNs.first {
      while position.keptIndex < keptPFNs.count, keptPFNs[position.keptIndex] < zeros.lowerBound {
        position.keptIndex += 1
      }
      if position.keptIndex < keptPFNs.count, keptPFNs[position.keptIndex] < zeros.upperBound {
        let pfn = keptPFNs[position.keptIndex]
        try count(zeros.lowerBound..<pfn, &position)
        window.page(0).initializeMemory(as: UInt8.self, repeating: 0)
        try finish(window, &position, firstPFN: pfn, pageCount: 1)
        position.totals.zeroByteCount += UInt64(Page.byteCount)
        position.zeroPFNs[0] = (pfn + 1)..<zeros.upperBound
        return true
      }
      try count(zeros, &position)
      position.zeroPFNs.removeFirst()
    }
    return false
  }

  /// Counts pages of zeros that need no visit.
  private func count(
    _ pfns: Range<UInt64>,
    _ position: inout Position
  ) throws(VMCheckpointError) {
    try addMemory(pfns, &position)
    position.totals.zeroByteCount += UInt64(pfns.count) << UInt64(Page.shift)
  }

  private func readPages(
    _ position: inout Position,
    into window: RAMWindow
  ) throws(VMCheckpointError) {
    let start = position.rest.lowerBound
    var end = min(position.rest.upperBound, start + UInt64(RAMWindow.pageCapacity * Page.byteCount))
    // A region may end there.
    if start < LoadRegions.fourGiB { end = min(end, LoadRegions.fourGiB) }
    end &= ~UInt64(Page.byteCount - 1)
    try source.read(
      into: UnsafeMutableRawBufferPointer(rebasing: window.bytes[..<Int(end - start)])
    )
    position.rest = end..<position.rest.upperBound
    try finish(
      window,
      &position,
      firstPFN: start >> UInt64(Page.shift),
      pageCount: Page.count(inByteCount: end - start)
    )
  }

  private func finish(
    _ window: RAMWindow,
    _ position: inout Position,
    firstPFN: UInt64,
    pageCount: UInt64
  ) throws(VMCheckpointError) {
    window.firstPFN = firstPFN
    window.pageCount = Int(pageCount)
    window.sequence = position.sequence
    position.sequence += 1
    try addMemory(firstPFN..<(firstPFN + pageCount), &position)
    window.sourceEndOffset = (position.memory.last?.upperBound ?? 0)
  }

  private func addMemory(
    _ pfns: Range<UInt64>,
    _ position: inout Position
  ) throws(VMCheckpointError) {
    guard !pfns.isEmpty else { return }
    try LoadRegions.append(
      pfns.lowerBound << UInt64(Page.shift)..<pfns.upperBound << UInt64(Page.shift),
      to: &position.memory
    )
  }
}

extension [UInt8] {
  /// Makes every byte zero.
  fileprivate mutating func resetBytes() {
    withUnsafeMutableBytes { _ = $0.initializeMemory(as: UInt8.self, repeating: 0) }
  }
}
