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
    try Self.requireSize(json)
    let object = try StrictJSONObject(
      StrictJSONReader.read(json, maximumValueCount: 64),
      at: JSONPath()
    )
    try object.rejectUnknownKeys(allowed: ["msrs", "tsc_frequency_hz"])
    let registers = try Self.registers(object)
    self.init(
      guestOSID: registers[Self.guestOSIDIndex],
      hypercall: registers[Self.hypercallIndex] ?? 0
    )
    let hz = object.contains("tsc_frequency_hz") ? try object.uint64("tsc_frequency_hz") : nil
    referenceTSC = registers[Self.referenceTSCIndex].map {
      ReferenceTSCRegister(value: $0, contents: hz.map { .frequency(hz: $0) })
    }
  }

  private static func registers(
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
        guard let kind = OverlayKind(msrIndex: index) else {
          throw values.invalid(
            member.key,
            "places no overlay; expected \(hexString(UInt64(guestOSIDIndex))), "
              + "\(hexString(UInt64(hypercallIndex))) or \(hexString(UInt64(referenceTSCIndex)))"
          )
        }
        guard !OverlayMSR(kind: kind, value: value).isEnabled else {
          throw values.invalid(
            member.key,
            "places a \(kind) overlay, whose contents no register holds",
            hint: "describe it in an overlays.json"
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
