extension Overlay {
  /// The overlay for a guest that goes on on another host.
  ///
  /// - Parameters:
  ///   - tscFrequencyHz: The frequency of the guest's TSC there, for the reference TSC page;
  ///     `nil`: unchanged. See ``ReferenceTSC/retargeted(frequencyHz:)``.
  ///   - cpuVendor: The vendor of the CPU there, for the hypercall page; `nil`: unchanged. See
  ///     ``HypercallVariant/retargeted(to:)``.
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument` when the overlay is a
  ///   reference TSC page and the frequency is 0 or above
  ///   ``ReferenceTSC/maximumFrequencyHz``.
  public func retargeted(
    tscFrequencyHz: UInt64?,
    cpuVendor: CPUVendor?
  ) throws(VMCheckpointError) -> Overlay {
    let value = try parameters.value.retargeted(
      tscFrequencyHz: tscFrequencyHz,
      cpuVendor: cpuVendor
    )
    return Overlay(pfn: pfn, parameters: OverlayParameters(value), vp: vp, msrBits: msrBits)
  }
}

extension OverlayDocument {
  /// The document for a guest that goes on on another host: each overlay as
  /// ``Overlay/retargeted(tscFrequencyHz:cpuVendor:)`` makes it.
  ///
  /// For RAM that is bare at every overlay, as ``OverlayTreatment/omit`` restores it: what a record
  /// says of the underlay stays, and RAM that shows an overlay still shows the old one.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument` when there is a reference TSC
  ///   page and the frequency is 0 or above ``ReferenceTSC/maximumFrequencyHz``.
  public func retargeted(
    tscFrequencyHz: UInt64?,
    cpuVendor: CPUVendor?
  ) throws(VMCheckpointError) -> OverlayDocument {
    var document = self
    for index in records.indices {
      document.records[index].overlay = try records[index].overlay.retargeted(
        tscFrequencyHz: tscFrequencyHz,
        cpuVendor: cpuVendor
      )
    }
    return document
  }
}
