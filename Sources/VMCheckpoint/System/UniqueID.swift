/// Random identifiers for stores and snapshots.
enum UniqueID {
  /// A version 4 UUID in lower case.
  ///
  /// Not Foundation's, which are all zeros where `/dev/urandom` cannot be read: Swift's generator asks the
  /// kernel.
  static func make() -> String {
    let high = UInt64.random(in: .min ... .max) & ~0xf000 | 0x4000
    let low = UInt64.random(in: .min ... .max) >> 2 | 1 << 63
    let digits = [high, low].map { half in
      let text = String(half, radix: 16)
      return String(repeating: "0", count: 16 - text.count) + text
    }
    .joined()
    var rest = digits[...]
    return [8, 4, 4, 4, 12].map { count in
      defer { rest = rest.dropFirst(count) }
      return String(rest.prefix(count))
    }
    .joined(separator: "-")
  }
}
