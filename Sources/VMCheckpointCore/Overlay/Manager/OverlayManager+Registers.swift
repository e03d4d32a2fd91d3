extension OverlayManager {
  /// Does what the guest's write of a register means for the overlay that the register places.
  ///
  ///     from       to                 effect
  ///     disabled   enabled            the overlay is added
  ///     enabled    another PFN        it moves, with its contents
  ///     enabled    other bits 11:1    the record follows; RAM is not touched
  ///     enabled    disabled           it is removed; its contents are lost
  ///
  /// The VMM keeps the register and hands over its value before and after:
  ///
  ///     let new = OverlayMSR(kind: .referenceTSC, value: valueWritten)
  ///     try manager.registerChanged(from: old, to: new, parameters: .referenceTSC(clock))
  ///     old = new
  ///
  /// For the hypercall page, ``HypercallRegisters`` says what the register's value is after a
  /// write.
  ///
  /// - Parameters:
  ///   - vp: The virtual processor whose register this is; ignored where the VM has only one.
  ///   - parameters: What the page holds, of the register's kind. Used only for an overlay that is
  ///     added: one that moves takes its contents along.
  /// - Throws: As ``add(_:)``, ``move(_:vp:from:to:)`` and ``remove(_:vp:at:)`` do; the register
  ///   should keep its old value then. A PFN outside RAM gives `invalidArgument`, which a VMM
  ///   answers with #GP.
  /// - Precondition: Both registers and `parameters` are of one kind.
  public func registerChanged(
    from old: OverlayMSR,
    to new: OverlayMSR,
    vp: UInt32 = 0,
    parameters: @autoclosure () -> OverlayParameters
  ) throws {
    precondition(old.kind == new.kind, "two registers of different kinds")
    let identity = OverlayIdentity(new.kind, vp: vp)
    try withTable { table, memory in
      switch (old.isEnabled, new.isEnabled) {
      case (false, false):
        break
      case (false, true):
        try table.add(new.overlay(vp: vp, parameters: parameters())!, to: memory)
      case (true, false):
        try table.remove(identity, at: old.pfn, from: memory)
      case (true, true):
        try table.move(identity, from: old.pfn, to: new.pfn, settingBits: new.bits, in: memory)
      }
    }
  }
}
