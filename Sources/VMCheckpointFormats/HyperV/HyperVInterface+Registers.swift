public import VMCheckpoint

/// Values of MSRs, as a VMM that has no format of its own for them can give and take them.
///
///     {"msrs": {"0x40000000": "0x…", "0x40000001": "0x…", "0x40000021": "0x…"},
///      "tsc_frequency_hz": 2400000000}
///
/// A register that is left out is unknown (the guest OS ID), disabled (the hypercall page) or absent
/// (the reference TSC). Values are numbers or strings; so is the frequency, which no register holds.
extension HyperVInterface {
  /// HV_X64_MSR_GUEST_OS_ID.
  private static let guestOSIDIndex = GuestOSID.msrIndex
  private static let hypercallIndex = OverlayKind.hypercall.msrIndex
  private static let referenceTSCIndex = OverlayKind.referenceTSC.msrIndex

  /// Reads values of MSRs.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  public init(registersJSON json: [UInt8]) throws(VMCheckpointError) {
    self.init(try RegisterValues(json: json))
  }

  /// What registers alone say: not the pages that a guest writes, which they place.
  init(_ values: RegisterValues) {
    let registers = values.registers
    self.init(
      guestOSID: registers[Self.guestOSIDIndex],
      hypercall: registers[Self.hypercallIndex] ?? 0
    )
    referenceTSC = registers[Self.referenceTSCIndex].map {
      ReferenceTSCRegister(value: $0, contents: values.tscFrequencyHz.map { .frequency(hz: $0) })
    }
  }

  /// What a document of registers says.
  struct RegisterValues {
    /// By number.
    var registers: [UInt32: UInt64]
    var tscFrequencyHz: UInt64?

    /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
    init(json: [UInt8]) throws(VMCheckpointError) {
      try HyperVInterface.requireSize(json)
      let object = try StrictJSONObject(
        StrictJSONReader.read(json, maximumValueCount: 64),
        at: JSONPath()
      )
      try object.rejectUnknownKeys(allowed: ["msrs", "tsc_frequency_hz"])
      registers = try HyperVInterface.registers(object)
      tscFrequencyHz =
        object.contains("tsc_frequency_hz") ? try object.uint64("tsc_frequency_hz") : nil
    }

    /// The overlays that are placed and whose contents only RAM has.
    var writtenByGuest: [OverlayMSR] {
      registers.sorted { $0.key < $1.key }.compactMap { index, value in
        guard let kind = OverlayKind(msrIndex: index), kind.storesContents else { return nil }
        let register = OverlayMSR(kind: kind, value: value)
        return register.isEnabled ? register : nil
      }
    }
  }

  fileprivate static func registers(
    _ object: StrictJSONObject
  ) throws(VMCheckpointError) -> [UInt32: UInt64] {
    let msrs = try object.value("msrs")
    let path = object.path.appending(.key("msrs"))
    guard case .object(let members) = msrs else {
      throw path.invalid("expected an object, found \(msrs.typeDescription)")
    }
    let values = try StrictJSONObject(msrs, at: path)
    var registers: [UInt32: UInt64] = [:]
    for member in members {
      guard member.key.hasPrefix("0x"), (3...10).contains(member.key.utf8.count),
        let index = UInt32(member.key.dropFirst(2), radix: 16)
      else {
        throw values.invalid(member.key, "expected an MSR's number as \"0x…\"")
      }
      let value = try values.uint64(member.key)
      registers[index] = value
      switch index {
      case guestOSIDIndex, hypercallIndex, referenceTSCIndex: break
      default:
        guard OverlayKind(msrIndex: index) != nil else {
          throw values.invalid(
            member.key,
            "places no overlay; expected \(hexString(UInt64(guestOSIDIndex))), "
              + "\(hexString(UInt64(hypercallIndex))) or \(hexString(UInt64(referenceTSCIndex)))"
          )
        }
      }
    }
    return registers
  }

  /// The registers' values, with a newline at the end.
  public func registersJSON() -> String {
    var members: [(index: UInt32, value: UInt64)] = []
    if let guestOSID { members.append((Self.guestOSIDIndex, guestOSID)) }
    members.append((Self.hypercallIndex, hypercall))
    if let referenceTSC { members.append((Self.referenceTSCIndex, referenceTSC.value)) }
    let list = members.map {
      "\n    \"\(hexString(UInt64($0.index)))\": \"\(hexString($0.value))\""
    }.joined(separator: ",")
    var text = "{\n  \"msrs\": {\(list)\n  }"
    if case .frequency(let hz)? = referenceTSC?.contents {
      text += ",\n  \"tsc_frequency_hz\": \(hz)"
    }
    return text + "\n}\n"
  }
}
