/// The pages that were read last, each under its PFN. Memory is taken as it is needed, up to a limit.
final class PageCache {
  private static let slabPageCount = 64
  private static let recentCount = 256

  private let slabLimit: Int
  private var slabs: [UnsafeMutableRawBufferPointer] = []
  /// The slot of each page.
  private var slots: [UInt64: Int] = [:]
  /// The page in each slot, and whether it was used since the hand came by.
  private var pfns: [UInt64] = []
  private var isUsed: [Bool] = []
  private var hand = 0
  /// What was asked for last, by the PFN's low bits: nearly all questions end here.
  private let recent: UnsafeMutablePointer<(pfn: UInt64, page: UnsafeRawPointer?)>

  /// - Parameter byteLimit: How much memory pages may take.
  init(byteLimit: Int) {
    slabLimit = max(1, byteLimit / (Self.slabPageCount * Page.byteCount))
    recent = .allocate(capacity: Self.recentCount)
    recent.initialize(repeating: (.max, nil), count: Self.recentCount)
  }

  deinit {
    slabs.forEach(LargeMemory.free)
    recent.deallocate()
  }

  /// The page, if it is here; valid until the next ``insert(_:)``.
  @inline(__always)
  func find(_ pfn: UInt64) -> UnsafeRawPointer? {
    let index = Int(truncatingIfNeeded: pfn) & (Self.recentCount - 1)
    if recent[index].pfn == pfn { return recent[index].page }
    guard let slot = slots[pfn] else { return nil }
    isUsed[slot] = true
    let page = UnsafeRawPointer(memory(slot))
    recent[index] = (pfn, page)
    return page
  }

  /// Room for a page that is not here, which the caller fills.
  func insert(_ pfn: UInt64) throws -> UnsafeMutableRawPointer {
    let slot = try freeSlot()
    pfns[slot] = pfn
    isUsed[slot] = true
    slots[pfn] = slot
    return memory(slot)
  }

  private func memory(_ slot: Int) -> UnsafeMutableRawPointer {
    slabs[slot / Self.slabPageCount].baseAddress!
      + slot % Self.slabPageCount * Page.byteCount
  }

  private func freeSlot() throws -> Int {
    if pfns.count < slabs.count * Self.slabPageCount || slabs.count < slabLimit {
      if pfns.count == slabs.count * Self.slabPageCount {
        slabs.append(
          try LargeMemory.allocate(byteCount: Self.slabPageCount * Page.byteCount)
        )
      }
      pfns.append(.max)
      isUsed.append(false)
      return pfns.count - 1
    }
    while isUsed[hand] {
      isUsed[hand] = false
      hand = (hand + 1) % pfns.count
    }
    let slot = hand
    hand = (hand + 1) % pfns.count
    let evicted = pfns[slot]
    slots[evicted] = nil
    let index = Int(truncatingIfNeeded: evicted) & (Self.recentCount - 1)
    if recent[index].pfn == evicted { recent[index] = (.max, nil) }
    return slot
  }
}

/// A page of zeros.
package nonisolated(unsafe) let zeroGuestPage: UnsafeRawPointer = {
  let page = UnsafeMutableRawPointer.allocate(byteCount: Page.byteCount, alignment: 64)
  page.initializeMemory(as: UInt8.self, repeating: 0, count: Page.byteCount)
  return UnsafeRawPointer(page)
}()
