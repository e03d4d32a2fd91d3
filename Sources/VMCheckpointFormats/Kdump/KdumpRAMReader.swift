import Synchronization
import SystemPackage
import VMCheckpoint

/// An open kdump.
///
/// Closes the file when it goes.
final class KdumpFile: Sendable {
  let file: DumpFile
  let header: KdumpHeader
  let map: KdumpMap
  /// What messages call the dump.
  let name: String

  /// - Parameter file: Becomes this object's.
  init(_ file: DumpFile, _ header: KdumpHeader, _ map: KdumpMap, name: String) {
    self.file = file
    self.header = header
    self.map = map
    self.name = name
  }

  deinit { try? file.descriptor.close() }
}

/// Reads RAM from a kdump: several threads read and decompress a window each.
///
/// Descriptors are in the order of PFNs, and so the first one of a window is known by counting.
final class KdumpRAMReader: RAMReader {
  /// A window's pages that are in the file.
  private struct Claim {
    /// A bit for each page from the last multiple of 256 on.
    var isStored: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    var firstDescriptor: UInt64 = 0

    func has(_ pfn: UInt64) -> Bool {
      let word =
        switch pfn >> 6 & 3 {
        case 0: isStored.0
        case 1: isStored.1
        case 2: isStored.2
        default: isStored.3
        }
      return word >> (pfn & 63) & 1 != 0
    }
  }

  private struct Position {
    var region = 0
    /// Into the region.
    var pageIndex: UInt64 = 0
    var nextDescriptor: UInt64 = 0
    /// The second bitmap's words of some pages.
    var words: [UInt64] = []
    var wordsFirstPFN: UInt64 = .max
    var keptIndex = 0
    var sequence = 0
    var doneByteCount: UInt64 = 0
    var isAtEnd = false
  }

  private let dump: KdumpFile
  private let keptPFNs: [UInt64]
  private let position = Mutex(Position())
  private let idle = Mutex<[KdumpPageReader]>([])

  let totalByteCount: UInt64?

  init(_ dump: KdumpFile, keptPFNs: [UInt64]) {
    self.dump = dump
    self.keptPFNs = keptPFNs
    totalByteCount = dump.map.layout.byteCount
  }

  func finalLayout() -> RAMLayout { dump.map.layout }

  func readWindow(into window: RAMWindow) throws(VMCheckpointError) -> Bool {
    do throws(VMCheckpointError) {
      let claimed = try position.withLock { position throws(VMCheckpointError) in
        try claim(&position, window)
      }
      guard let claimed else { return false }
      let waiting = idle.withLock { $0.popLast() }
      let reader = if let waiting { waiting } else { try KdumpPageReader(dump) }
      try read(claimed, window, reader)
      idle.withLock { $0.append(reader) }
      return true
    } catch {
      // Other threads must not go on to find something else wrong.
      position.withLock { $0.isAtEnd = true }
      throw error.code == .invalidData ? error.naming(dump.name) : error
    }
  }

  /// Sets the window's pages to the next that are not all zero; `nil` at the end.
  private func claim(
    _ position: inout Position,
    _ window: RAMWindow
  ) throws(VMCheckpointError) -> Claim? {
    let regions = dump.map.layout.regions
    while !position.isAtEnd, position.region < regions.count {
      let region = regions[position.region]
      guard position.pageIndex < region.pageCount else {
        position.doneByteCount += region.byteCount
        position.region += 1
        position.pageIndex = 0
        continue
      }
      let pfn = region.firstPFN.rawValue + position.pageIndex
      // Windows end at multiples of 256 PFNs, so that their bits are whole words of the bitmap.
      let capacity = UInt64(RAMWindow.pageCapacity)
      let pageCount = min(capacity - pfn % capacity, region.pageCount - position.pageIndex)
      let isStored = try bits(&position, at: pfn)
      var claim = Claim(isStored: isStored, firstDescriptor: position.nextDescriptor)
      // The bits of other regions are not this window's.
      var storedCount: UInt64 = 0
      if isStored != (0, 0, 0, 0) {
        for page in pfn..<(pfn + pageCount) where claim.has(page) { storedCount += 1 }
      }
      position.nextDescriptor += storedCount
      position.pageIndex += pageCount
      guard storedCount > 0 || visits(pfn..<(pfn + pageCount), &position) else { continue }
      if storedCount == 0 { claim.isStored = (0, 0, 0, 0) }
      window.firstPFN = pfn
      window.pageCount = Int(pageCount)
      window.sequence = position.sequence
      position.sequence += 1
      window.sourceEndOffset =
        position.doneByteCount + position.pageIndex << UInt64(Page.shift)
      return claim
    }
    return nil
  }

  /// The bits of the 256 pages that hold `pfn`.
  private func bits(
    _ position: inout Position,
    at pfn: UInt64
  ) throws(VMCheckpointError) -> (UInt64, UInt64, UInt64, UInt64) {
    let first = pfn / KdumpMap.pagesPerPiece * KdumpMap.pagesPerPiece
    if position.wordsFirstPFN != first {
      let count = min(KdumpMap.pagesPerPiece, dump.header.pfnCount - first)
      position.words = try KdumpMap.words(dump.header, dump.file, bitmap: 1, first, count)
      position.wordsFirstPFN = first
    }
    let index = Int((pfn - first) / 256 * 4)
    let words = position.words
    func word(_ offset: Int) -> UInt64 {
      index + offset < words.count ? words[index + offset] : 0
    }
    return (word(0), word(1), word(2), word(3))
  }

  /// Whether one of these pages must be visited even if it is zero.
  private func visits(_ pfns: Range<UInt64>, _ position: inout Position) -> Bool {
    while position.keptIndex < keptPFNs.count, keptPFNs[position.keptIndex] < pfns.lowerBound {
      position.keptIndex += 1
    }
    return position.keptIndex < keptPFNs.count && keptPFNs[position.keptIndex] < pfns.upperBound
  }

  private func read(
    _ claim: Claim,
    _ window: RAMWindow,
    _ reader: KdumpPageReader
  ) throws(VMCheckpointError) {
    var count = 0
    for pfn in window.firstPFN..<window.endPFN where claim.has(pfn) { count += 1 }
    try reader.begin(claim.firstDescriptor, count: count)
    for index in 0..<window.pageCount {
      let page = window.page(index)
      let pfn = window.firstPFN + UInt64(index)
      if claim.has(pfn) {
        try reader.readNext(pfn, into: page)
      } else {
        page.initializeMemory(as: UInt8.self, repeating: 0)
      }
    }
  }
}
