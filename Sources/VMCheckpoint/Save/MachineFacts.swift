/// What a save knows about the machine that the guest ran on, as the snapshot's row has it.
struct MachineFacts {
  let guestOSID: String?
  let cpuVendor: String?
  let tscFrequencyHz: Int64?

  /// From the guest OS ID, and from the overlays: the first whose parameters depend on the machine.
  init(_ plan: OverlayPlan, guestOSID: UInt64?) {
    var vendor: CPUVendor?
    var frequencyHz: UInt64?
    for overlay in plan.stacks.lazy.flatMap(\.overlays) {
      let parameters = overlay.parameters.value
      vendor = vendor ?? parameters.cpuVendor
      frequencyHz = frequencyHz ?? parameters.tscFrequencyHz
    }
    self.guestOSID = guestOSID.map(fixedWidthHexString)
    cpuVendor = vendor?.rawValue
    tscFrequencyHz = frequencyHz.flatMap { Int64(exactly: $0) }
  }

  func add(to digester: inout SnapshotDigester) {
    digester.add(guestOSID: guestOSID, cpuVendor: cpuVendor, tscFrequencyHz: tscFrequencyHz)
  }
}
