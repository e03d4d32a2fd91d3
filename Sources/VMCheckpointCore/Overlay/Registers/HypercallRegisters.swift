/// The two registers that place the hypercall page, and how each restrains the other.
///
/// A VMM keeps one per VM, hands the guest's writes to it, and then compares
/// ``hypercall`` with what it was to learn whether the page appeared, moved or went.
///
///     guest OS ID   hypercall      write hypercall
///     0             disabled       stored with the enable bit cleared
///     not 0         not locked     stored
///     not 0         locked         ignored until reset
public struct HypercallRegisters: Hashable, Sendable {
  /// HV_X64_MSR_GUEST_OS_ID.
  public private(set) var guestOSID: GuestOSID

  /// HV_X64_MSR_HYPERCALL.
  public private(set) var hypercall: OverlayMSR

  /// Both registers as they are after a reset: 0.
  public init() {
    guestOSID = GuestOSID(rawValue: 0)
    hypercall = OverlayMSR(kind: .hypercall, value: 0)
  }

  /// Both registers as a checkpoint holds them.
  public init(guestOSID: GuestOSID, hypercall value: UInt64) {
    self.guestOSID = guestOSID
    self.hypercall = OverlayMSR(kind: .hypercall, value: value)
  }

  /// A write of the guest OS ID. 0 disables the hypercall page, even a locked one (TLFS 3.13).
  public mutating func writeGuestOSID(_ value: UInt64) {
    guestOSID = GuestOSID(rawValue: value)
    if value == 0 {
      hypercall = OverlayMSR(
        kind: .hypercall,
        value: hypercall.value & ~OverlayMSR.enableBit
      )
    }
  }

  /// A write of the hypercall register.
  ///
  /// - Returns: Whether it took effect; `false` when the register is locked.
  @discardableResult
  public mutating func writeHypercall(_ value: UInt64) -> Bool {
    guard !hypercall.isLocked else { return false }
    let enableMask = guestOSID.rawValue == 0 ? ~OverlayMSR.enableBit : ~0
    hypercall = OverlayMSR(kind: .hypercall, value: value & enableMask)
    return true
  }

  /// A reset of the VM: the only way out of the lock.
  public mutating func reset() {
    self = HypercallRegisters()
  }
}
