/// Bytes that the active overlays lay over bare RAM, once it is loaded.
package struct RAMPatch {
  var pfn: PFN
  /// 4096 bytes.
  var contents: PageContents
  /// How many leading bytes of `contents` to lay over the page.
  var byteCount: Int

  /// The patches for a treatment, in ascending order of PFN.
  ///
  /// Where an overlay is baked, RAM has its bytes already, just as the guest saw them. The bytes
  /// that its kind determines are written anew only if the overlay was retargeted. What the VMM lays over RAM
  /// itself is left to it.
  static func patches(
    for overlays: StoredOverlays,
    treatment: OverlayTreatment
  ) -> [RAMPatch] {
    guard treatment == .apply else { return [] }
    return overlays.active.compactMap { entry in
      guard !entry.isLeftToVMM, !entry.isBaked || entry.isRetargeted else { return nil }
      return RAMPatch(
        pfn: entry.overlay.pfn,
        contents: entry.overlay.contents(),
        byteCount: entry.isBaked ? entry.overlay.determinedByteCount : Page.byteCount
      )
    }
  }

  func withBytes<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try contents.withUnsafeBytes { bytes throws(Failure) in
      try body(UnsafeRawBufferPointer(rebasing: bytes[..<byteCount]))
    }
  }
}
