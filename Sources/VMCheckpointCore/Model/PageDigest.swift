/// The SHA-256 of a page's 4096 bytes: the identity of a page's content.
public struct PageDigest: Hashable, Sendable {
  /// 32.
  public static let byteCount = 32

  /// The digest's bytes 0…7, 8…15, 16…23 and 24…31, each as a big-endian number, so that
  /// comparing word by word orders digests as `memcmp` does.
  package let words: (UInt64, UInt64, UInt64, UInt64)

  package init(words: (UInt64, UInt64, UInt64, UInt64)) {
    self.words = words
  }

  /// The SHA-256 of `page`.
  public init(of page: UnsafeRawBufferPointer) {
    var hasher = SHA256Hasher()
    hasher.update(page)
    self = withUnsafeTemporaryAllocation(byteCount: Self.byteCount, alignment: 8) { digest in
      hasher.finalize(into: digest.baseAddress!)
      return Self(loadingFrom: digest.baseAddress!)
    }
  }

  /// Reads 32 bytes at `pointer`, which needs no alignment.
  package init(loadingFrom pointer: UnsafeRawPointer) {
    func word(_ index: Int) -> UInt64 {
      UInt64(bigEndian: pointer.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
    }
    self.words = (word(0), word(1), word(2), word(3))
  }

  /// Writes the 32 bytes to `pointer`, which needs no alignment.
  package func store(to pointer: UnsafeMutableRawPointer) {
    pointer.storeBytes(of: words.0.bigEndian, toByteOffset: 0, as: UInt64.self)
    pointer.storeBytes(of: words.1.bigEndian, toByteOffset: 8, as: UInt64.self)
    pointer.storeBytes(of: words.2.bigEndian, toByteOffset: 16, as: UInt64.self)
    pointer.storeBytes(of: words.3.bigEndian, toByteOffset: 24, as: UInt64.self)
  }

  /// The first eight bytes as a big-endian number: the page index's key.
  package var prefix: UInt64 { words.0 }

  /// Whether all 32 bytes are equal.
  public static func == (lhs: Self, rhs: Self) -> Bool {
    lhs.words == rhs.words
  }

  /// Hashes the first word, which SHA-256 makes as good as all.
  public func hash(into hasher: inout Hasher) {
    hasher.combine(words.0)
  }
}

extension PageDigest: CustomStringConvertible {
  /// 64 lower-case hexadecimal digits.
  public var description: String {
    [words.0, words.1, words.2, words.3].map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }
}
