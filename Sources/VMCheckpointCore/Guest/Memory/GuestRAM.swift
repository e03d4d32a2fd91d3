/// A guest's RAM as what looks for its kernel reads it: by guest-physical address, and page by page.
///
/// Not thread-safe. Everything in it is what the guest wrote, and so may be anything.
package protocol GuestRAM: AnyObject {
  /// Where there is RAM.
  var layout: RAMLayout { get }

  /// How many pages of it a dump left out.
  var absentPageCount: UInt64 { get }

  /// The 4096 bytes of a page, valid until the next call; `nil` where there is no RAM, or the page is absent.
  ///
  /// - Throws: What keeps the page from being read, such as a damaged store.
  func page(_ pfn: UInt64) throws -> UnsafeRawPointer?

  /// Calls `body` with the pages from `pfn` on that are not zero, in ascending order, until it returns `false`.
  func visitPages(
    from pfn: UInt64,
    _ body: (_ pfn: UInt64, _ page: UnsafeRawPointer) throws -> Bool
  ) throws

  /// Where pages with these SHA-256s are, in ascending order and at most `limit` of them, without a look at the
  /// pages.
  func places(of digests: Set<PageDigest>, limit: Int) throws -> [(pfn: UInt64, digest: PageDigest)]

  /// How many times ``page(_:)`` has had to get pages from where they are kept.
  var loadCount: Int { get }

  /// Throws when the caller's caller wants no more, as when a statement is interrupted.
  func poll() throws
}

extension GuestRAM {
  /// Copies the bytes from `gpa` on.
  ///
  /// - Returns: Whether all of them are RAM and known. Otherwise `destination` holds anything.
  package func read(_ gpa: UInt64, into destination: UnsafeMutableRawBufferPointer) throws -> Bool {
    var address = gpa
    var offset = 0
    while offset < destination.count {
      guard let page = try page(address >> UInt64(Page.shift)) else { return false }
      let pageOffset = Int(address & UInt64(Page.byteCount - 1))
      let count = min(Page.byteCount - pageOffset, destination.count - offset)
      (destination.baseAddress! + offset).copyMemory(from: page + pageOffset, byteCount: count)
      offset += count
      // The last page of the address space is not RAM: a sum that overflows ends there.
      address = address &+ UInt64(count)
    }
    return true
  }

  /// `count` bytes from `gpa` on; `nil` where any is not RAM or absent.
  package func bytes(_ gpa: UInt64, count: Int) throws -> [UInt8]? {
    guard count >= 0 else { return nil }
    var isComplete = true
    let result = try [UInt8](unsafeUninitializedCapacity: count) { buffer, initializedCount in
      isComplete = try read(gpa, into: UnsafeMutableRawBufferPointer(buffer))
      if !isComplete { buffer.initialize(repeating: 0) }
      initializedCount = count
    }
    return isComplete ? result : nil
  }

  /// A little-endian number; `nil` where any of it is not RAM or absent.
  package func number<Number: FixedWidthInteger>(
    _ gpa: UInt64,
    as _: Number.Type = Number.self
  ) throws -> Number? {
    let byteCount = MemoryLayout<Number>.size
    let offset = Int(gpa & UInt64(Page.byteCount - 1))
    if offset <= Page.byteCount - byteCount {
      guard let page = try page(gpa >> UInt64(Page.shift)) else { return nil }
      return Number(littleEndian: page.loadUnaligned(fromByteOffset: offset, as: Number.self))
    }
    guard let bytes = try bytes(gpa, count: byteCount) else { return nil }
    return bytes.withUnsafeBytes { Number(littleEndian: $0.loadUnaligned(as: Number.self)) }
  }
}
