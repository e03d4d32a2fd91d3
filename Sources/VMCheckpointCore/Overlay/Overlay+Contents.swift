extension Overlay {
  /// The page that the guest sees when this overlay is active: derived from the parameters, or as
  /// stored.
  public func contents() -> PageContents {
    switch parameters {
    case .hypercall(let variant):
      PageContents(prefix: variant.code, fill: variant.fillByte)
    case .referenceTSC(let referenceTSC):
      PageContents(prefix: referenceTSC.pagePrefix)
    case .synicMessage(let contents), .synicEvent(let contents), .vpAssist(let contents):
      contents
    }
  }

  /// How many of the page's leading bytes the hypervisor writes when it has no overlays and
  /// writes over RAM instead.
  ///
  /// KVM does so: it writes the instructions of a hypercall page (4 bytes, 9 with Xen's prefix)
  /// and the 24 bytes of a reference TSC page, and leaves what RAM held behind them (Linux
  /// `arch/x86/kvm/hyperv.c`). All other pages are written whole.
  public var determinedByteCount: Int {
    switch parameters {
    case .hypercall(let variant): variant.determinedByteCount
    case .referenceTSC: ReferenceTSC.determinedByteCount
    case .synicMessage, .synicEvent, .vpAssist: Page.byteCount
    }
  }
}

extension ReferenceTSC {
  /// HV_REFERENCE_TSC_PAGE (TLFS 12.7.2), little-endian:
  ///
  ///     offset  size
  ///          0     4  sequence
  ///          4     4  reserved, 0
  ///          8     8  scale
  ///         16     8  offset, signed
  fileprivate var pagePrefix: [UInt8] {
    let (sequence, scale, offset) = fields
    return littleEndian(sequence) + [0, 0, 0, 0] + littleEndian(scale) + littleEndian(offset)
  }
}

private func littleEndian(_ value: some FixedWidthInteger) -> [UInt8] {
  withUnsafeBytes(of: value.littleEndian) { Array($0) }
}
