/// Bits 11:1 of a register that places an overlay: everything but the enable bit and the PFN.
///
/// The TLFS asks guests to preserve them (TLFS 3.13, 12.7.1, 11.8.4, 11.8.5, 7.8.7), so a
/// checkpoint keeps them exactly.
public struct OverlayMSRBits: OptionSet, Hashable, Sendable {
  /// In place: bits 11:1 of the register. Bit 0 and the bits above 11 are 0.
  public let rawValue: UInt16

  /// Which bits of the register these are.
  package static let mask: UInt16 = 0x0ffe

  /// Bits of `rawValue` that do not belong here are dropped.
  public init(rawValue: UInt16) {
    self.rawValue = rawValue & Self.mask
  }

  /// Bit 1 of the hypercall register: it cannot change until the VM resets (TLFS 3.13).
  public static let locked = OverlayMSRBits(rawValue: 1 << 1)
}

extension OverlayMSRBits {
  /// Their key in overlays.json and in the store.
  package static let key = "msr_bits"

  /// Reads `msr_bits`; none when it is absent.
  package init(_ object: StrictJSONObject) throws(VMCheckpointError) {
    guard object.contains(Self.key) else {
      self = []
      return
    }
    let value = try object.uint64(Self.key)
    guard value & ~UInt64(Self.mask) == 0 else {
      throw object.invalid(Self.key, "only bits 11:1 may be set (0xffe)")
    }
    self.init(rawValue: UInt16(value))
  }
}
