/// A guest's RAM as an ``OverlayManager`` sees it: by pages.
///
/// The memory is not the manager's own: guest, VMM and manager share it, which is why writing
/// does not mutate the value.
public protocol GuestMemory: Sendable {
  /// Whether `pfn` is RAM.
  func contains(_ pfn: PFN) -> Bool

  /// Copies the page at `pfn` into `buffer`, which has 4096 bytes.
  func readPage(at pfn: PFN, into buffer: UnsafeMutableRawBufferPointer) throws

  /// Copies `buffer`, which has 4096 bytes, into the page at `pfn`.
  ///
  /// All or nothing: when it throws, the page holds what it held before. What the manager
  /// promises about its state after a failure depends on that.
  func writePage(at pfn: PFN, from buffer: UnsafeRawBufferPointer) throws
}

extension GuestMemory {
  package func page(at pfn: PFN) throws -> PageContents {
    let bytes = try [UInt8](unsafeUninitializedCapacity: Page.byteCount) { buffer, count in
      try readPage(at: pfn, into: UnsafeMutableRawBufferPointer(buffer))
      count = Page.byteCount
    }
    return PageContents(bytes)!
  }

  package func write(_ contents: PageContents, at pfn: PFN) throws {
    try contents.withUnsafeBytes { try writePage(at: pfn, from: $0) }
  }
}
