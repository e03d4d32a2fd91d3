/// What a reference TSC page tells the guest: how to turn its TSC into reference time, in units
/// of 100 ns (TLFS 12.7).
///
///     reference time = ((tsc * scale) >> 64) + offset
public enum ReferenceTSC: Hashable, Sendable {
  /// The page of a hypervisor that keeps the guest's TSC at the right offset, as Propolis does:
  /// sequence 1, the scale that follows from the frequency, offset 0. See ``page`` for `hz` that
  /// is too low.
  case frequency(hz: UInt64)

  /// The page's own fields, as KVM computes them. Sequence 0 tells the guest to use another
  /// clock.
  case page(sequence: UInt32, scale: UInt64, offset: Int64)
}

extension ReferenceTSC {
  /// 2⁶³ - 1: SQLite's integers are signed, and a TSC that ticks faster does not exist.
  public static let maximumFrequencyHz = UInt64(Int64.max)

  /// Ticks of reference time in a second.
  package static let referenceFrequencyHz: UInt64 = 10_000_000

  /// ⌊10⁷ · 2⁶⁴ / hz⌋, exactly; `nil` when that has more than 64 bits, which is so for 10 MHz and
  /// less.
  ///
  /// Source: Propolis `enlightenment/hyperv/tsc.rs`.
  public static func scale(frequencyHz hz: UInt64) -> UInt64? {
    guard hz > referenceFrequencyHz else { return nil }
    return hz.dividingFullWidth((high: referenceFrequencyHz, low: 0)).quotient
  }

  /// The fields of the page. A frequency that is too low for the scale gives a page with sequence
  /// 0 and scale 0, as Propolis and Hyper-V do.
  public var fields: (sequence: UInt32, scale: UInt64, offset: Int64) {
    switch self {
    case .frequency(let hz):
      guard let scale = Self.scale(frequencyHz: hz) else { return (0, 0, 0) }
      return (1, scale, 0)
    case .page(let sequence, let scale, let offset):
      return (sequence, scale, offset)
    }
  }

  /// The same page for a TSC of another frequency.
  ///
  /// Page fields get a new scale, the same offset, and the next sequence number, so that a guest
  /// that was stopped between its two reads of the sequence reads again (TLFS 12.7.3). 0 and
  /// 0xFFFFFFFF are skipped, as KVM does: both have meant "do not use this page". A page with
  /// sequence 0 stays as it is: the guest uses another clock, and a scale and offset that nobody
  /// vouches for must not come into use.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument` when `hz` is 0 or above
  ///   ``maximumFrequencyHz``.
  public func retargeted(frequencyHz hz: UInt64) throws(VMCheckpointError) -> ReferenceTSC {
    guard (1...Self.maximumFrequencyHz).contains(hz) else {
      throw VMCheckpointError(
        .invalidArgument,
        "a TSC frequency is 1 to \(Self.maximumFrequencyHz) Hz, not \(hz) Hz"
      )
    }
    switch self {
    case .frequency:
      return .frequency(hz: hz)
    case .page(0, _, _):
      return self
    case .page(let sequence, _, let offset):
      guard let scale = Self.scale(frequencyHz: hz) else {
        return .page(sequence: 0, scale: 0, offset: offset)
      }
      return .page(sequence: Self.sequence(after: sequence), scale: scale, offset: offset)
    }
  }

  private static func sequence(after sequence: UInt32) -> UInt32 {
    let next = sequence &+ 1
    return next == 0 || next == .max ? 1 : next
  }

  /// How much of the page KVM writes: sequence, padding, scale and offset.
  package static let determinedByteCount = 24
}
