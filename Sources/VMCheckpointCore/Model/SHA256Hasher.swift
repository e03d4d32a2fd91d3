import CCrypto

/// Computes a SHA-256 by libcrypto, which uses the processor's own instructions for it.
///
/// No allocation: libcrypto's state is in the value, so that a copy goes on by itself.
package struct SHA256Hasher {
  private var context = SHA256_CTX()

  package init() {
    SHA256_Init(&context)
  }

  /// Adds bytes.
  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    SHA256_Update(&context, bytes.baseAddress, bytes.count)
  }

  /// Writes the digest's 32 bytes to `digest`. The hasher cannot be used afterwards.
  package mutating func finalize(into digest: UnsafeMutableRawPointer) {
    SHA256_Final(digest.assumingMemoryBound(to: UInt8.self), &context)
  }

  /// The digest's 32 bytes. The hasher cannot be used afterwards.
  package mutating func finalize() -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: PageDigest.byteCount) { bytes, count in
      finalize(into: bytes.baseAddress!)
      count = PageDigest.byteCount
    }
  }

  /// The SHA-256 of `bytes`.
  package static func hash(_ bytes: [UInt8]) -> [UInt8] {
    var hasher = SHA256Hasher()
    bytes.withUnsafeBytes { hasher.update($0) }
    return hasher.finalize()
  }
}
