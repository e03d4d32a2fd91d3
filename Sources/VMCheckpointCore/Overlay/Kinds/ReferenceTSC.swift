/// What a reference TSC page says to the guest: how to turn its TSC into reference time, in units
/// of 100 ns (TLFS 12.7).
///
///     reference time = ((tsc * scale) >> 64) + offset
public enum ReferenceTSC: Hashable, Sendable {
  /// The page of a hypervisor that keeps the guest's TSC at the right offset, as Propolis does:
  /// sequence 1, the scale that follows from the frequency, offset 0. See ``page`` for `hz` that
  /// is too low.
  case frequency(hz: UInt64)

  /// The page's own fields, as KVM computes them. Sequence 0 asks the guest to use another
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
}

extension ReferenceTSC: OverlayKindDefinition {
  package static let name = "reference-tsc"
  package static let priority = 1
  package static let scope = OverlayScope.vm
  package static let msrIndex: UInt32 = 0x4000_0021  // HV_X64_MSR_REFERENCE_TSC
  package static let isInVersion1 = true

  /// The TLFS lets a guest place it anywhere (12.7.1).
  package static let mayBeOutsideRAM = true

  private static let frequencyKey = "tsc_frequency_hz"
  private static let fieldKeys = ["sequence", "scale", "offset"]

  package static let parameterKeys = [frequencyKey] + fieldKeys

  package init(_ object: StrictJSONObject, contents: PageContents?) throws(VMCheckpointError) {
    guard object.contains(Self.frequencyKey) else {
      guard Self.fieldKeys.contains(where: object.contains) else {
        throw object.path.invalid(
          "a reference-tsc overlay needs tsc_frequency_hz, or sequence, scale and offset"
        )
      }
      self = .page(
        sequence: try object.uint32("sequence"),
        scale: try object.uint64("scale"),
        offset: try object.int64("offset")
      )
      return
    }
    for key in Self.fieldKeys where object.contains(key) {
      throw object.invalid(key, "not allowed together with tsc_frequency_hz")
    }
    self = .frequency(hz: try object.uint64(Self.frequencyKey))
  }

  package var defect: (key: String, message: String)? {
    guard let hz = tscFrequencyHz, !(1...Self.maximumFrequencyHz).contains(hz) else { return nil }
    return (Self.frequencyKey, "out of range: expected 1 to \(Self.maximumFrequencyHz)")
  }

  package var jsonMembers: [(key: String, json: String)] {
    switch self {
    case .frequency(let hz):
      [(Self.frequencyKey, "\(hz)")]
    case .page(let sequence, let scale, let offset):
      [
        ("offset", "\(offset)"),
        ("scale", "\"\(hexString(scale))\""),
        ("sequence", "\(sequence)"),
      ]
    }
  }

  package static let jsonSchema = OverlayKindSchema(
    description:
      "How the guest turns its TSC into reference time: by the TSC's frequency, or by the fields of the page.",
    properties: [
      """
      "tsc_frequency_hz": {
        "description": "The page has sequence 1, scale 10^7 * 2^64 / tsc_frequency_hz and offset 0; up to 10 MHz, sequence 0 and scale 0.",
        "$ref": "#/$defs/positive-int64"
      }
      """,
      """
      "sequence": {
        "description": "0: the guest uses another clock.",
        "type": "integer",
        "minimum": 0,
        "maximum": 4294967295
      }
      """,
      ##""scale": { "$ref": "#/$defs/uint64" }"##,
      """
      "offset": {
        "description": "In units of 100 ns; a string holds the 64 bits of the two's complement.",
        "$ref": "#/$defs/int64"
      }
      """,
    ],
    rules: [
      """
      "oneOf": [
        { "required": ["tsc_frequency_hz"] },
        { "required": ["sequence", "scale", "offset"] }
      ]
      """,
      """
      "dependentSchemas": {
        "tsc_frequency_hz": {
          "properties": { "sequence": false, "scale": false, "offset": false }
        }
      }
      """,
    ]
  )

  /// HV_REFERENCE_TSC_PAGE (TLFS 12.7.2), little-endian:
  ///
  ///     offset  size
  ///          0     4  sequence
  ///          4     4  reserved, 0
  ///          8     8  scale
  ///         16     8  offset, signed
  package var contents: PageContents {
    let (sequence, scale, offset) = fields
    return PageContents(
      prefix: littleEndian(sequence) + [0, 0, 0, 0] + littleEndian(scale) + littleEndian(offset)
    )
  }

  /// KVM writes sequence, padding, scale and offset alone.
  package var determinedByteCount: Int { 24 }

  package func retargeted(
    tscFrequencyHz: UInt64?,
    cpuVendor: CPUVendor?
  ) throws(VMCheckpointError) -> ReferenceTSC {
    guard let tscFrequencyHz else { return self }
    return try retargeted(frequencyHz: tscFrequencyHz)
  }

  package var tscFrequencyHz: UInt64? {
    if case .frequency(let hz) = self { hz } else { nil }
  }
}

private func littleEndian(_ value: some FixedWidthInteger) -> [UInt8] {
  withUnsafeBytes(of: value.littleEndian) { Array($0) }
}

extension OverlayKind {
  /// Scale and offset that turn the TSC into reference time (TLFS 12.7, "Partition Reference TSC
  /// Mechanism").
  public static let referenceTSC = ReferenceTSC.kind
}

extension OverlayParameters {
  /// How the TSC turns into reference time.
  public static func referenceTSC(_ page: ReferenceTSC) -> OverlayParameters {
    OverlayParameters(page)
  }

  /// How the TSC turns into reference time; `nil` for other kinds.
  public var referenceTSC: ReferenceTSC? { value as? ReferenceTSC }
}
