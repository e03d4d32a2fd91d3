public import VMCheckpoint

/// Propolis's device `guest-hyperv-interface`, version 1.
///
///     (msr_guest_os_id: u64, msr_hypercall: u64,
///      reference_tsc: Some((msr_value: u64, guest_freq: u64)) or None)
///
/// In a snapshot of propolis-standalone it is JSON, `null` instead of `None`; a live migration sends
/// it as RON.
///
/// Source: propolis `lib/propolis/src/enlightenment/hyperv/mod.rs` at 372a5744.
extension HyperVInterface {
  /// What Propolis calls the payload.
  public static let propolisKind = "guest-hyperv-interface"
  /// The version of the payload that is read and written.
  public static let propolisVersion: UInt32 = 1
  /// 64 KiB: a payload has some 150 bytes.
  public static let maximumByteCount = 64 << 10

  /// Reads the payload as JSON.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  public init(propolisJSON json: [UInt8]) throws(VMCheckpointError) {
    try Self.requireSize(json)
    let object = try StrictJSONObject(
      StrictJSONReader.read(json, maximumValueCount: 16),
      at: JSONPath()
    )
    try object.rejectUnknownKeys(allowed: ["msr_guest_os_id", "msr_hypercall", "reference_tsc"])
    self.init(
      guestOSID: try object.uint64("msr_guest_os_id"),
      hypercall: try object.uint64("msr_hypercall")
    )
    let value = try object.value("reference_tsc")
    guard value != .null else { return }
    let clock = try StrictJSONObject(value, at: object.path.appending(.key("reference_tsc")))
    try clock.rejectUnknownKeys(allowed: ["msr_value", "guest_freq"])
    referenceTSC = ReferenceTSCRegister(
      value: try clock.uint64("msr_value"),
      contents: .frequency(hz: try clock.uint64("guest_freq"))
    )
  }

  /// Reads the payload as RON.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  public init(propolisRON ron: [UInt8]) throws(VMCheckpointError) {
    try Self.requireSize(ron)
    let names = ["msr_guest_os_id", "msr_hypercall", "reference_tsc"]
    let fields = try Self.fields(RONReader.read(ron), names, of: "the payload")
    self.init(
      guestOSID: try Self.integer(fields[0], names[0]),
      hypercall: try Self.integer(fields[1], names[1])
    )
    switch fields[2] {
    case .none: break
    case .some(let value):
      let names = ["msr_value", "guest_freq"]
      let clock = try Self.fields(value, names, of: "reference_tsc")
      referenceTSC = ReferenceTSCRegister(
        value: try Self.integer(clock[0], names[0]),
        contents: .frequency(hz: try Self.integer(clock[1], names[1]))
      )
    default: throw .invalidData("reference_tsc: expected Some(…) or None")
    }
  }

  /// The payload as JSON, on one line without a newline.
  ///
  /// - Throws: ``VMCheckpointError`` when Propolis's payload cannot hold it.
  public func propolisJSON() throws(VMCheckpointError) -> String {
    let values = try propolisValues()
    let clock = values.clock.map { #"{"msr_value":\#($0.value),"guest_freq":\#($0.hz)}"# }
    return #"{"msr_guest_os_id":\#(values.guestOSID),"msr_hypercall":\#(hypercall),"#
      + #""reference_tsc":\#(clock ?? "null")}"#
  }

  /// The payload as RON, on one line without a newline.
  ///
  /// - Throws: ``VMCheckpointError`` when Propolis's payload cannot hold it.
  public func propolisRON() throws(VMCheckpointError) -> String {
    let values = try propolisValues()
    let clock = values.clock.map { "Some((msr_value:\($0.value),guest_freq:\($0.hz)))" }
    return "(msr_guest_os_id:\(values.guestOSID),msr_hypercall:\(hypercall),"
      + "reference_tsc:\(clock ?? "None"))"
  }

  private struct PropolisValues {
    var guestOSID: UInt64
    var clock: (value: UInt64, hz: UInt64)?
  }

  private func propolisValues() throws(VMCheckpointError) -> PropolisValues {
    guard let guestOSID else {
      throw VMCheckpointError(
        .invalidArgument,
        "the guest OS ID is not known, and Propolis needs it",
        hint: "give it with --guest-os-id"
      )
    }
    guard !enablesHypercall || hypercallVariant == .returnNotSupported else {
      throw .invalidData(
        "the guest's hypercall page is \(hypercallVariant.rawValue), and Propolis has only "
          + HypercallVariant.returnNotSupported.rawValue,
        hint: "set it with --hypercall-variant, if the guest shall have Propolis's page"
      )
    }
    var values = PropolisValues(guestOSID: guestOSID)
    if let referenceTSC {
      switch referenceTSC.contents {
      case .frequency(let hz)?: values.clock = (referenceTSC.value, hz)
      case .page?:
        throw VMCheckpointError(
          .invalidArgument,
          "the reference TSC page has a sequence, scale and offset, and Propolis derives them from "
            + "the TSC's frequency",
          hint: "give the frequency with --tsc-frequency"
        )
      case nil: throw Self.unknownFrequency
      }
    }
    return values
  }

  static func requireSize(_ bytes: [UInt8]) throws(VMCheckpointError) {
    guard bytes.count <= maximumByteCount else {
      throw .invalidData("has \(bytes.count) bytes, and at most \(maximumByteCount) make sense")
    }
  }

  /// The values of exactly these fields.
  private static func fields(
    _ value: RONReader.Value,
    _ names: [String],
    of what: String
  ) throws(VMCheckpointError) -> [RONReader.Value] {
    guard case .structure(let fields) = value else {
      throw .invalidData("\(what): expected a struct with named fields")
    }
    if let unknown = fields.first(where: { !names.contains($0.name) }) {
      throw .invalidData("\(unknown.name): unknown field")
    }
    var values: [RONReader.Value] = []
    for name in names {
      guard let field = fields.first(where: { $0.name == name }) else {
        throw .invalidData("\(name): missing")
      }
      values.append(field.value)
    }
    return values
  }

  private static func integer(
    _ value: RONReader.Value,
    _ name: String
  ) throws(VMCheckpointError) -> UInt64 {
    guard case .integer(let integer) = value else {
      throw .invalidData("\(name): expected an integer")
    }
    return integer
  }
}
