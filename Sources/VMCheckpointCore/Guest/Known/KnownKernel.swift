/// Where a kernel's image has its symbols and types, as a search through a guest's RAM found them.
///
/// All of it is in the kernel's read-only data, which is one piece of guest-physical memory, and which neither
/// KASLR nor another VM changes: distances from one page of it are the same in every guest with that kernel. The
/// page's SHA-256 finds it there. Nothing here is believed: what is at these places is read and checked as if a
/// search had found it.
package struct KnownKernel: Hashable, Sendable {
  /// The SHA-256 of the page in which the index of the symbols' tokens begins.
  package var anchor: PageDigest
  /// Where the index begins in that page, in bytes.
  package var indexOffset: Int
  /// How many bytes lie between the page's beginning and that of the types.
  package var typesDistance: Int64
  /// Where VMCOREINFO is, if the kernel cannot be read without it. The next moments of the same boot have it there.
  package var infoGPA: UInt64?

  package init(anchor: PageDigest, indexOffset: Int, typesDistance: Int64, infoGPA: UInt64? = nil) {
    self.anchor = anchor
    self.indexOffset = indexOffset
    self.typesDistance = typesDistance
    self.infoGPA = infoGPA
  }

  /// A kernel's image is smaller than this.
  private static let maximumDistance: Int64 = 1 << 30

  // MARK: As bytes

  //     OFFSET  SIZE  DESCRIPTION
  //          0     8  "vmckptK1"
  //          8     8  indexOffset
  //         16     8  typesDistance
  //         24     8  infoGPA, or 2^64 - 1
  //         32    32  SHA-256 of the anchor and of the 32 bytes before

  /// How many bytes ``bytes`` has.
  package static let byteCount = checkedByteCount + PageDigest.byteCount
  private static let checkedByteCount = 32
  private static let magic = Array("vmckptK1".utf8)

  /// What a file keeps of it; the anchor is the file's name.
  package var bytes: [UInt8] {
    var bytes = Self.magic
    for value in [
      UInt64(indexOffset), UInt64(bitPattern: typesDistance), infoGPA ?? .max,
    ] {
      bytes += (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
    }
    return bytes + Self.checksum(anchor, bytes[...])
  }

  /// What `bytes` say of the kernel with this anchor; `nil` where they are not whole, or impossible.
  package init?(anchor: PageDigest, bytes: [UInt8]) {
    guard bytes.count == Self.byteCount, bytes.starts(with: Self.magic),
      Self.checksum(anchor, bytes[..<Self.checkedByteCount])
        .elementsEqual(bytes[Self.checkedByteCount...])
    else { return nil }
    func word(_ offset: Int) -> UInt64 {
      (0..<8).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64($1 * 8) }
    }
    let distance = Int64(bitPattern: word(16))
    guard word(8) < UInt64(Page.byteCount), word(8) % 4 == 0,
      distance > -Self.maximumDistance, distance < Self.maximumDistance
    else { return nil }
    self.init(
      anchor: anchor,
      indexOffset: Int(word(8)),
      typesDistance: distance,
      infoGPA: word(24) == .max ? nil : word(24)
    )
  }

  private static func checksum(_ anchor: PageDigest, _ bytes: ArraySlice<UInt8>) -> [UInt8] {
    var all = [UInt8](repeating: 0, count: PageDigest.byteCount)
    all.withUnsafeMutableBytes { anchor.store(to: $0.baseAddress!) }
    return SHA256Hasher.hash(all + bytes)
  }
}
