public import VMCheckpoint

/// SplitMix64: the same numbers from the same seed on every machine.
public struct OverlayTestGenerator: RandomNumberGenerator {
  private var state: UInt64

  /// A generator whose numbers `seed` determines.
  public init(seed: UInt64) {
    state = seed
  }

  /// The next 64 bits.
  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }

  /// `true` once in `count` times.
  public mutating func oneIn(_ count: Int) -> Bool {
    Int.random(in: 0..<count, using: &self) == 0
  }
}

// MARK: - Random overlays

extension OverlayTestGenerator {
  /// Now and then zeros; else a few random bytes at random places.
  public mutating func pageContents() -> PageContents {
    guard !oneIn(8) else { return .zero }
    var bytes = [UInt8](repeating: 0, count: Page.byteCount)
    for _ in 0..<8 {
      bytes[Int.random(in: 0..<Page.byteCount, using: &self)] = .random(in: 0...255, using: &self)
    }
    return PageContents(bytes)!
  }

  /// A value with few bits set, all bits set, or any.
  public mutating func edgyUInt64() -> UInt64 {
    switch Int.random(in: 0..<4, using: &self) {
    case 0: UInt64.random(in: 0...2, using: &self)
    case 1: UInt64.max - UInt64.random(in: 0...2, using: &self)
    case 2: (1 << 53) + UInt64.random(in: 0...2, using: &self)
    default: next()
    }
  }

  /// Valid parameters of `kind`.
  public mutating func parameters(of kind: OverlayKind) -> OverlayParameters {
    switch kind {
    case .hypercall:
      .hypercall(HypercallVariant.allCases.randomElement(using: &self)!)
    case .referenceTSC where oneIn(2):
      .referenceTSC(
        .frequency(hz: max(1, edgyUInt64() & ReferenceTSC.maximumFrequencyHz))
      )
    case .referenceTSC:
      .referenceTSC(
        .page(
          sequence: UInt32(truncatingIfNeeded: edgyUInt64()),
          scale: edgyUInt64(),
          offset: Int64(bitPattern: edgyUInt64())
        )
      )
    default:
      .stored(kind, pageContents())!
    }
  }

  /// An overlay of any kind.
  public mutating func overlay(at pfn: PFN, vpCount: UInt32 = .max) -> Overlay {
    let kind = OverlayKind.allCases.randomElement(using: &self)!
    return Overlay(
      pfn: pfn,
      parameters: parameters(of: kind),
      vp: kind.scope == .vp ? UInt32.random(in: 0..<vpCount, using: &self) : 0,
      msrBits: oneIn(3) ? OverlayMSRBits(rawValue: UInt16(truncatingIfNeeded: next())) : []
    )
  }

  /// A document that need not follow the overlay rules.
  public mutating func overlayDocument(maximumRecordCount: Int) -> OverlayDocument {
    let count = Int.random(in: 0...maximumRecordCount, using: &self)
    return OverlayDocument(
      guestOSID: oneIn(3) ? nil : edgyUInt64(),
      records: (0..<count).map { _ in
        let pfn = PFN(rawValue: edgyUInt64() & PFN.max.rawValue)!
        let underlay: CapturedUnderlay? =
          switch Int.random(in: 0..<4, using: &self) {
          case 0: .zero
          case 1: .unknown
          case 2: .page(pageContents())
          default: nil
          }
        return OverlayRecord(overlay: overlay(at: pfn), underlay: underlay)
      }
    )
  }
}
