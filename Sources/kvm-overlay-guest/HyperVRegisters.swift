import Foundation
import VMCheckpoint

/// The part of Hyper-V's interface that this VMM offers: three registers of the VM, and the two
/// overlays that they place.
struct HyperVRegisters {
  /// Whose pages the registers place.
  let overlays: OverlayManager<MappedRAM>

  /// The guest OS ID and the hypercall page's register, which restrain each other.
  private(set) var hypercall: HypercallRegisters

  /// The reference TSC page's register.
  private(set) var referenceTSC: OverlayMSR

  /// What a VM has before its guest says anything.
  init(overlays: OverlayManager<MappedRAM>) {
    self.overlays = overlays
    hypercall = HypercallRegisters()
    referenceTSC = OverlayMSR(kind: .referenceTSC, value: 0)
  }

  /// What the guest reads from an MSR; `nil`: it gets #GP.
  func read(_ index: UInt32) -> UInt64? {
    switch index {
    case GuestOSID.msrIndex: hypercall.guestOSID.rawValue
    case OverlayKind.hypercall.msrIndex: hypercall.hypercall.value
    case OverlayKind.referenceTSC.msrIndex: referenceTSC.value
    default: nil
    }
  }

  /// Does what the guest's write of an MSR asks for.
  ///
  /// The vCPU does not run meanwhile. If there are several, the others must not run either while an
  /// overlay comes or goes.
  ///
  /// - Parameter clock: What a reference TSC page that is enabled now is to hold.
  /// - Returns: Whether the guest may write that. If not, it gets #GP and nothing has changed.
  mutating func write(_ index: UInt32, _ value: UInt64, clock: () throws -> ReferenceTSC) throws
    -> Bool
  {
    var (hypercall, referenceTSC) = (hypercall, referenceTSC)
    switch index {
    case GuestOSID.msrIndex: hypercall.writeGuestOSID(value)
    case OverlayKind.hypercall.msrIndex: hypercall.writeHypercall(value)
    case OverlayKind.referenceTSC.msrIndex:
      referenceTSC = OverlayMSR(kind: .referenceTSC, value: value)
    default: return false
    }
    let time = try clock()
    do {
      // An OS ID of 0 takes the hypercall page away: so both are looked at after each write.
      try overlays.registerChanged(
        from: self.hypercall.hypercall,
        to: hypercall.hypercall,
        parameters: .hypercall(.returnNotSupported)
      )
      try overlays.registerChanged(
        from: self.referenceTSC,
        to: referenceTSC,
        parameters: .referenceTSC(time)
      )
    } catch let error as VMCheckpointError where error.code == .invalidArgument {
      return false  // a page that is not RAM
    }
    (self.hypercall, self.referenceTSC) = (hypercall, referenceTSC)
    return true
  }
}

// MARK: - Saved

extension HyperVRegisters {
  /// The registers as a device state keeps them. Overlays say the same of those that are enabled;
  /// here are the disabled ones too, which the guest may read.
  struct Saved: Codable {
    var guestOSID: UInt64
    var hypercall: UInt64
    var referenceTSC: UInt64
  }

  /// What the registers read as.
  var saved: Saved {
    Saved(
      guestOSID: hypercall.guestOSID.rawValue,
      hypercall: hypercall.hypercall.value,
      referenceTSC: referenceTSC.value
    )
  }

  /// Registers as they were saved, over overlays that were restored.
  ///
  /// - Throws: ``KVMError`` when the two do not belong together: better no guest than one whose
  ///   registers name other pages than it sees.
  init(saved: Saved, overlays: OverlayManager<MappedRAM>) throws {
    self.overlays = overlays
    hypercall = HypercallRegisters(
      guestOSID: GuestOSID(rawValue: saved.guestOSID),
      hypercall: saved.hypercall
    )
    referenceTSC = OverlayMSR(kind: .referenceTSC, value: saved.referenceTSC)
    let enabled = [hypercall.hypercall, referenceTSC].filter(\.isEnabled)
    guard try Set(enabled) == Set(overlays.overlays.map { OverlayMSR($0) }) else {
      throw KVMError("the snapshot's overlays are not those of its registers")
    }
  }
}
