/// The keys that spell an overlay's parameters, the same in overlays.json and in the store.
///
///     kind            keys
///     hypercall       variant
///     reference-tsc   tsc_frequency_hz, or sequence, scale and offset
///     every kind      msr_bits, where bits 11:1 of the register are not 0
extension OverlayParameters {
  package static func keys(for kind: OverlayKind) -> Set<String> {
    switch kind {
    case .hypercall: ["msr_bits", "variant"]
    case .referenceTSC: ["msr_bits", "offset", "scale", "sequence", "tsc_frequency_hz"]
    case .synicMessage, .synicEvent, .vpAssist: ["msr_bits"]
    }
  }

  /// Reads the parameters' keys.
  ///
  /// - Precondition: `contents` is given when `kind` stores its contents.
  package init(
    kind: OverlayKind,
    object: StrictJSONObject,
    contents: PageContents?
  ) throws(VMCheckpointError) {
    switch kind {
    case .hypercall:
      let name = try object.string("variant")
      guard let variant = HypercallVariant(rawValue: name) else {
        throw object.invalid(
          "variant",
          "unknown variant \(quotedForMessage(name)); expected one of "
            + rawValues(HypercallVariant.self)
        )
      }
      self = .hypercall(variant)
    case .referenceTSC:
      self = .referenceTSC(try ReferenceTSC(object))
    case .synicMessage:
      self = .synicMessage(contents!)
    case .synicEvent:
      self = .synicEvent(contents!)
    case .vpAssist:
      self = .vpAssist(contents!)
    }
  }

  /// The keys and their values in JSON, sorted by key.
  ///
  /// 64-bit values are strings `"0x…"`: many JSON readers keep 53 bits of a number.
  package func jsonMembers(msrBits: OverlayMSRBits) -> [(key: String, json: String)] {
    var members: [(key: String, json: String)] = []
    if !msrBits.isEmpty {
      members.append(("msr_bits", "\"\(hexString(UInt64(msrBits.rawValue)))\""))
    }
    switch self {
    case .hypercall(let variant):
      members.append(("variant", "\"\(variant.rawValue)\""))
    case .referenceTSC(.frequency(let hz)):
      members.append(("tsc_frequency_hz", "\(hz)"))
    case .referenceTSC(.page(let sequence, let scale, let offset)):
      members.append(("offset", "\(offset)"))
      members.append(("scale", "\"\(hexString(scale))\""))
      members.append(("sequence", "\(sequence)"))
    case .synicMessage, .synicEvent, .vpAssist:
      break
    }
    return members
  }
}

extension ReferenceTSC {
  fileprivate init(_ object: StrictJSONObject) throws(VMCheckpointError) {
    let fieldKeys = ["sequence", "scale", "offset"]
    guard object.contains("tsc_frequency_hz") else {
      guard fieldKeys.contains(where: object.contains) else {
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
    for key in fieldKeys where object.contains(key) {
      throw object.invalid(key, "not allowed together with tsc_frequency_hz")
    }
    let hz = try object.uint64("tsc_frequency_hz")
    guard (1...Self.maximumFrequencyHz).contains(hz) else {
      throw object.invalid(
        "tsc_frequency_hz",
        "out of range: expected 1 to \(Self.maximumFrequencyHz)"
      )
    }
    self = .frequency(hz: hz)
  }
}

extension OverlayMSRBits {
  /// Reads `msr_bits`; none when it is absent.
  package init(_ object: StrictJSONObject) throws(VMCheckpointError) {
    guard object.contains("msr_bits") else {
      self = []
      return
    }
    let value = try object.uint64("msr_bits")
    guard value & ~UInt64(Self.mask) == 0 else {
      throw object.invalid("msr_bits", "only bits 11:1 may be set (0xffe)")
    }
    self.init(rawValue: UInt16(value))
  }
}

/// The words of the format that `type` stands for, as a list for messages.
package func rawValues<Word: CaseIterable & RawRepresentable<String>>(_ type: Word.Type) -> String {
  type.allCases.map(\.rawValue).joined(separator: ", ")
}
