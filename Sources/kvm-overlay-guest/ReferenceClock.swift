import VMCheckpoint

/// How a reference TSC page gets its contents, and how the guest's time goes on after a restore.
enum ReferenceClock: String, CaseIterable, Codable {
  /// The page follows from the TSC's frequency alone, as Propolis does it. The VMM sets the
  /// guest's TSC so that it continues, which the host must be able to.
  case frequency

  /// The page has an offset, as KVM does it. It makes up for whatever the TSC reads on the host
  /// where the guest wakes up.
  case offset

  /// The page that a guest enables, with a clock that begins now.
  func page(frequencyHz: UInt64, tsc: UInt64) -> ReferenceTSC {
    guard self == .offset, let scale = ReferenceTSC.scale(frequencyHz: frequencyHz) else {
      return .frequency(hz: frequencyHz)
    }
    return .page(sequence: 1, scale: scale, offset: -Self.ticks(tsc, scale))
  }

  /// `document` with the offset that lets time go on from `referenceTime`, where it has a page with
  /// an offset.
  static func continuing(
    _ document: OverlayDocument,
    from referenceTime: Int64,
    tsc: UInt64
  ) -> OverlayDocument {
    var document = document
    for (index, record) in document.records.enumerated() {
      guard case .page(let sequence, let scale, _) = record.overlay.parameters.referenceTSC
      else { continue }
      let offset = referenceTime - ticks(tsc, scale)
      document.records[index].overlay = Overlay(
        pfn: record.overlay.pfn,
        parameters: .referenceTSC(.page(sequence: sequence, scale: scale, offset: offset)),
        msrBits: record.overlay.msrBits
      )
    }
    return document
  }

  /// The time that a page gives when the TSC reads `tsc`, in units of 100 ns.
  static func time(_ page: ReferenceTSC, tsc: UInt64) -> Int64 {
    ticks(tsc, page.fields.scale) + page.fields.offset
  }

  /// The TSC that shows the same time at another frequency; `nil` when 64 bits do not hold it.
  ///
  /// - Precondition: `old` is not 0.
  static func rescaled(_ tsc: UInt64, from old: UInt64, to new: UInt64) -> UInt64? {
    let product = tsc.multipliedFullWidth(by: new)
    guard product.high < old else { return nil }
    return old.dividingFullWidth(product).quotient
  }

  private static func ticks(_ tsc: UInt64, _ scale: UInt64) -> Int64 {
    Int64(tsc.multipliedFullWidth(by: scale).high)
  }
}
