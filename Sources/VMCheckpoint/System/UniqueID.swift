/// Random identifiers for stores and snapshots.
package enum UniqueID {
  /// A version 4 UUID in lower case.
  ///
  /// Not Foundation's, which are all zeros where `/dev/urandom` cannot be read: Swift's generator asks the
  /// kernel.
  package static func make() -> String {
    var bytes = (0..<16).map { _ in UInt8.random(in: .min ... .max) }
    bytes[6] = bytes[6] & 0x0f | 0x40
    bytes[8] = bytes[8] & 0x3f | 0x80
    var rest = hexadecimal(bytes)[...]
    return [8, 4, 4, 4, 12].map { count in
      defer { rest = rest.dropFirst(count) }
      return String(rest.prefix(count))
    }
    .joined(separator: "-")
  }
}
