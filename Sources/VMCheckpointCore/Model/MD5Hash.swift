import CCrypto

/// MD5 (RFC 1321) by libcrypto: what object stores check a body by. It proves nothing against people.
package enum MD5Hash {
  /// The size of a hash.
  package static let byteCount = 16

  /// The hash of `bytes`: ``byteCount`` bytes.
  package static func hash(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    var context = MD5_CTX()
    MD5_Init(&context)
    MD5_Update(&context, bytes.baseAddress, bytes.count)
    var hash = [UInt8](repeating: 0, count: byteCount)
    MD5_Final(&hash, &context)
    return hash
  }
}
