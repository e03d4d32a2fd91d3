import Glibc

/// What a running guest's RAM was when it was read last: a fingerprint for each page.
///
/// The guest writes meanwhile, and past whatever tracks writes: vhost-user and VFIO do not use the VMM's page
/// tables. So nothing is assumed of a page later: each is read once more when the guest is stopped, and compared.
/// A page may have been torn when it was read. Its fingerprint is that of the torn bytes, which were what was
/// stored, and then the page that is there later has another.
///
/// 8 bytes a page, which take memory only where RAM is not zero. Threads note windows at once, each its own.
final class SeenPages: @unchecked Sendable {
  /// A region, and the index of its first page.
  private struct Run {
    var firstPFN: UInt64
    var pageCount: UInt64
    var firstIndex: Int
  }

  let layout: RAMLayout
  private let runs: [Run]
  /// Of all regions.
  let pageCount: Int
  private let memory: UnsafeMutableRawBufferPointer
  /// By index; 0: the page was zero, or in a hole.
  private let fingerprints: UnsafeMutablePointer<UInt64>
  private let fingerprinter: PageFingerprinter

  /// One that has seen zeros only.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init(_ layout: RAMLayout, _ fingerprinter: PageFingerprinter) throws(VMCheckpointError) {
    self.layout = layout
    self.fingerprinter = fingerprinter
    var runs: [Run] = []
    var pageCount: UInt64 = 0
    for region in layout.regions {
      runs.append(
        Run(
          firstPFN: region.firstPFN.rawValue,
          pageCount: region.pageCount,
          firstIndex: Int(pageCount)
        )
      )
      pageCount += region.pageCount
    }
    self.runs = runs
    self.pageCount = Int(pageCount)
    memory = try LargeMemory.allocateZeroed(byteCount: Int(pageCount) * MemoryLayout<UInt64>.stride)
    fingerprints = memory.baseAddress!.assumingMemoryBound(to: UInt64.self)
  }

  deinit { LargeMemory.free(memory) }

  /// The index of a page; `nil` outside RAM. Consecutive pages of a region have consecutive ones.
  func index(ofPFN pfn: UInt64) -> Int? {
    for run in runs where pfn >= run.firstPFN && pfn - run.firstPFN < run.pageCount {
      return run.firstIndex + Int(pfn - run.firstPFN)
    }
    return nil
  }

  /// The PFN of the page with `index`, and how many follow in its region, itself included.
  func place(ofIndex index: Int) -> (pfn: UInt64, followingCount: Int)? {
    guard let run = runs.last(where: { $0.firstIndex <= index }) else { return nil }
    let offset = UInt64(index - run.firstIndex)
    guard offset < run.pageCount else { return nil }
    return (run.firstPFN + offset, Int(run.pageCount - offset))
  }

  /// The fingerprint of a page that is not zero: never 0.
  @inline(__always)
  func fingerprint(of page: UnsafeRawPointer) -> UInt64 {
    max(1, fingerprinter.fingerprint(of: page))
  }

  /// Whether the page with `index` was not zero, and had the fingerprint `fingerprint`.
  @inline(__always)
  func has(_ fingerprint: UInt64, at index: Int) -> Bool { fingerprints[index] == fingerprint }

  /// Whether the page with `index` was zero.
  @inline(__always)
  func wasZero(at index: Int) -> Bool { fingerprints[index] == 0 }

  /// Notes the pages of `window`, whose zero pages are found.
  func note(_ window: RAMWindow) {
    guard let first = index(ofPFN: window.firstPFN) else { return }
    let base = UnsafeRawPointer(window.bytes.baseAddress!)
    for offset in 0..<window.pageCount {
      fingerprints[first + offset] =
        window.isZero[offset] ? 0 : fingerprint(of: base + offset * Page.byteCount)
    }
  }
}
