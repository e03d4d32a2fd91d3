/// A guest page frame number: a guest-physical address (GPA) shifted right by 12.
public struct PFN: Hashable, Comparable, Sendable, RawRepresentable {
  /// GPA >> 12. At most ``max``.
  public let rawValue: UInt64

  /// The largest PFN: GPAs have 64 bits, so PFNs have 52, as in the PFN field of Hyper-V's MSRs
  /// (TLFS 6.0b, bits 63:12).
  public static let max = PFN(unchecked: (1 << 52) - 1)

  /// Fails when `rawValue` has more than 52 bits.
  public init?(rawValue: UInt64) {
    guard rawValue <= Self.max.rawValue else { return nil }
    self.rawValue = rawValue
  }

  /// The page that holds `gpa`.
  public init(gpa: UInt64) {
    self.rawValue = gpa >> UInt64(Page.shift)
  }

  /// For values that were checked before.
  ///
  /// - Precondition: `rawValue` has at most 52 bits.
  package init(unchecked rawValue: UInt64) {
    self.rawValue = rawValue
  }

  /// The GPA of the page's first byte.
  public var gpa: UInt64 { rawValue << UInt64(Page.shift) }

  /// Orders by guest-physical address.
  public static func < (lhs: PFN, rhs: PFN) -> Bool { lhs.rawValue < rhs.rawValue }
}

extension PFN: CustomStringConvertible {
  /// Hexadecimal with a prefix, as messages show PFNs: `0x4000`.
  public var description: String { hexString(rawValue) }
}

/// `0x` and the shortest lower-case hexadecimal form of `value`.
package func hexString(_ value: UInt64) -> String {
  "0x" + String(value, radix: 16)
}
