/// The value of a register that places an overlay.
///
/// All five registers have one layout (TLFS 3.13, 12.7.1, 11.8.4, 11.8.5, 7.8.7):
///
///     bits   63:12  PFN
///            11:1   to be preserved; bit 1 of the hypercall register is Locked
///            0      enable
public struct OverlayMSR: Hashable, Sendable {
  /// The kind of overlay that the register places.
  public let kind: OverlayKind

  /// What the register reads as.
  public let value: UInt64

  /// `kind`'s register with `value`.
  public init(kind: OverlayKind, value: UInt64) {
    self.kind = kind
    self.value = value
  }

  /// The value of the register that places `overlay`.
  public init(_ overlay: Overlay) {
    self.init(
      kind: overlay.kind,
      value: overlay.pfn.gpa | UInt64(overlay.msrBits.rawValue) | Self.enableBit
    )
  }

  package static let enableBit: UInt64 = 1

  /// Bit 0: whether the overlay exists.
  public var isEnabled: Bool { value & Self.enableBit != 0 }

  /// Bits 63:12.
  public var pfn: PFN { PFN(gpa: value) }

  /// Bits 11:1.
  public var bits: OverlayMSRBits { OverlayMSRBits(rawValue: UInt16(value & 0xfff)) }

  /// Bit 1 of the hypercall register; `false` for the others.
  public var isLocked: Bool { kind.definition.hasLock && bits.contains(.locked) }

  /// The overlay that the register places; `nil` when it is disabled.
  ///
  /// The inverse of ``init(_:)``: the overlay's register has this value again.
  ///
  /// - Parameters:
  ///   - vp: The virtual processor whose register this is; ignored where the VM has only one.
  ///   - parameters: What the page holds, of the register's kind.
  /// - Precondition: `parameters.kind` is ``kind``.
  public func overlay(vp: UInt32 = 0, parameters: OverlayParameters) -> Overlay? {
    precondition(parameters.kind == kind, "parameters of another kind")
    guard isEnabled else { return nil }
    return Overlay(
      pfn: pfn,
      parameters: parameters,
      vp: kind.scope == .vp ? vp : 0,
      msrBits: bits
    )
  }
}
