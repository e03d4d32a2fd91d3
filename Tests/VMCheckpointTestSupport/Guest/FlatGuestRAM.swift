import VMCheckpoint
package import VMCheckpointCore

/// A guest's RAM in memory, from address 0 on.
package final class FlatGuestRAM: GuestRAM {
  package let layout: RAMLayout
  package var bytes: [UInt8]
  /// Pages that are absent.
  package var absentPFNs: Set<UInt64> = []
  package var absentPageCount: UInt64 { UInt64(absentPFNs.count) }
  /// Pages that were asked for.
  package private(set) var readPFNs: Set<UInt64> = []
  /// How often RAM was gone through.
  package private(set) var visitCount = 0
  private let scratch = UnsafeMutableRawPointer.allocate(byteCount: 2 * 4096, alignment: 64)
  private var turn = 0

  package init(_ bytes: [UInt8]) throws {
    self.bytes = bytes
    layout = try RAMLayout(contiguousByteCount: UInt64(bytes.count))
  }

  deinit { scratch.deallocate() }

  package func page(_ pfn: UInt64) throws -> UnsafeRawPointer? {
    guard pfn < UInt64(bytes.count / 4096), !absentPFNs.contains(pfn) else { return nil }
    readPFNs.insert(pfn)
    return copy(pfn)
  }

  private func copy(_ pfn: UInt64) -> UnsafeRawPointer {
    // The last page stays valid while the next is read, as a caller may rely on at most.
    turn = 1 - turn
    let target = scratch + turn * 4096
    bytes.withUnsafeBytes {
      target.copyMemory(from: $0.baseAddress! + Int(pfn) * 4096, byteCount: 4096)
    }
    return UnsafeRawPointer(target)
  }

  package func visitPages(
    from pfn: UInt64,
    _ body: (UInt64, UnsafeRawPointer) throws -> Bool
  ) throws {
    visitCount += 1
    let page = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 64)
    defer { page.deallocate() }
    for number in pfn..<max(pfn, UInt64(bytes.count / 4096)) where !absentPFNs.contains(number) {
      let isZero = bytes.withUnsafeBytes { all in
        page.copyMemory(from: all.baseAddress! + Int(number) * 4096, byteCount: 4096)
        return UnsafeRawBufferPointer(start: page, count: 4096).allSatisfy { $0 == 0 }
      }
      if isZero { continue }
      guard try body(number, page) else { return }
    }
  }

  package func places(
    of digests: Set<PageDigest>,
    limit: Int
  ) throws -> [(pfn: UInt64, digest: PageDigest)] {
    var places: [(pfn: UInt64, digest: PageDigest)] = []
    for pfn in 0..<UInt64(bytes.count / 4096) where !absentPFNs.contains(pfn) {
      let digest = bytes.withUnsafeBytes {
        PageDigest(of: UnsafeRawBufferPointer(rebasing: $0[(Int(pfn) * 4096)...].prefix(4096)))
      }
      if digests.contains(digest), places.count < limit { places.append((pfn, digest)) }
    }
    return places
  }

  package let loadCount = 0

  package func poll() {}

  /// Begins ``readPFNs`` anew.
  package func forgetReads() { readPFNs = [] }
}
