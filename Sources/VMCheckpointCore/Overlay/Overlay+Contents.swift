extension Overlay {
  /// The page that the guest sees when this overlay is active: derived from the parameters, or as
  /// stored.
  public func contents() -> PageContents { parameters.value.contents }

  /// How many of the page's leading bytes the hypervisor writes when it has no overlays and
  /// writes over RAM instead.
  ///
  /// KVM does so: it writes the instructions of a hypercall page (4 bytes, 9 with Xen's prefix)
  /// and the 24 bytes of a reference TSC page, and leaves what RAM held behind them (Linux
  /// `arch/x86/kvm/hyperv.c`). All other pages are written whole.
  public var determinedByteCount: Int { parameters.value.determinedByteCount }
}
