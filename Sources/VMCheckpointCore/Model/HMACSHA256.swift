import CCrypto

/// HMAC-SHA-256 (RFC 2104) by libcrypto: a code that only who has the key can compute.
package enum HMACSHA256 {
  /// The size of a code.
  package static let byteCount = 32

  /// The code of `message` under `key`.
  ///
  /// - Returns: ``byteCount`` bytes; `nil` when libcrypto has no memory.
  package static func code(of message: [UInt8], key: [UInt8]) -> [UInt8]? {
    var code = [UInt8](repeating: 0, count: byteCount)
    var length: UInt32 = 0
    let result = HMAC(
      EVP_sha256(),
      key,
      Int32(key.count),
      message,
      message.count,
      &code,
      &length
    )
    return result != nil && Int(length) == byteCount ? code : nil
  }

  /// Whether two codes are equal. The time that it takes does not show where they differ.
  package static func areEqual(_ first: [UInt8], _ second: [UInt8]) -> Bool {
    first.count == second.count && CRYPTO_memcmp(first, second, first.count) == 0
  }
}
