/// The RAM of a guest that runs, which a source lets the store read before it stops the guest.
package struct RunningRAM {
  /// What the VMM calls the VM, if it does.
  package var vmName: String?
  /// Where RAM lies. It may lie elsewhere once the guest is stopped; then reading it now was in vain.
  package var layout: RAMLayout
  /// Makes a reader of all of RAM as it is now.
  package var makeReader: () throws(VMCheckpointError) -> any RAMReader

  /// Whether the time that reading and comparing take is to be measured.
  package var measuresLook = false

  package init(
    vmName: String?,
    layout: RAMLayout,
    makeReader: @escaping () throws(VMCheckpointError) -> any RAMReader
  ) {
    self.vmName = vmName
    self.layout = layout
    self.makeReader = makeReader
  }
}

/// What a save did with ``RunningRAM``.
package struct RunningRAMReport: Sendable {
  /// For how long reading and comparing all of RAM, which the guest is stopped for, took while it ran.
  /// `nil` if that was not asked for.
  package var lookSeconds: Double?
}
