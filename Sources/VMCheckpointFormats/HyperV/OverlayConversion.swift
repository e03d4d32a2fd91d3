public import VMCheckpoint

/// A spelling of the overlays of a VM, each of which converts into the others.
public enum OverlayFormat: String, CaseIterable, Sendable, Hashable {
  /// Propolis's `guest-hyperv-interface` v1 as live migration sends it.
  case propolisRON = "propolis-ron"
  /// Propolis's `guest-hyperv-interface` v1 as a snapshot has it.
  case propolisJSON = "propolis-json"
  /// Values of MSRs.
  case msrs
  /// An overlays.json.
  case overlaysJSON = "overlays-json"
}

/// What converting overlays needs beside the document itself.
public struct OverlayConversion: Sendable, Hashable {
  /// What the document is.
  public var source: OverlayFormat
  /// What it becomes.
  public var target: OverlayFormat

  /// The guest's RAM, to check PFNs; `nil`: they are not checked.
  public var layout: RAMLayout?
  /// Whether the VM that is to import the overlays has a reference TSC; `nil`: not checked.
  public var hasReferenceTSC: Bool?

  /// What the guest wrote to its OS ID register, where the document does not say or is to be
  /// corrected.
  public var guestOSID: UInt64?
  /// The TSC's frequency, where the document does not say or is to be corrected.
  public var tscFrequencyHz: UInt64?
  /// Whose code the hypercall page holds, where the document does not say or is to be corrected.
  public var hypercallVariant: HypercallVariant?

  /// The guest's RAM, where it shows what registers do not say: the pages that the guest writes, a clock's offset, and
  /// what was written over RAM; `nil`: not known. Only from registers to an overlays.json.
  public var ram: RAMFile?

  /// A flat RAM file.
  public struct RAMFile: Sendable, Hashable {
    /// Its path.
    public var path: String
    /// Where its bytes are; `nil`: from GPA 0 on.
    public var layout: RAMLayout?

    /// The file at `path`.
    public init(path: String, layout: RAMLayout? = nil) {
      self.path = path
      self.layout = layout
    }
  }

  /// Makes one that checks nothing which depends on the guest.
  public init(from source: OverlayFormat, to target: OverlayFormat) {
    self.source = source
    self.target = target
  }

  /// A converted document.
  public struct Result: Sendable, Hashable {
    /// The document's text, with a newline at its end.
    public var text: String
    /// How many overlays are enabled.
    public var overlayCount: Int
    /// What the target cannot say, one line each.
    public var warnings: [String]
  }

  /// Converts a document that nobody has vouched for, and checks it as Propolis does on import.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidData` when the document breaks its format or a rule, or
  ///   the target cannot hold it; `invalidArgument` when something has to be given beside it.
  public func convert(_ document: [UInt8]) throws(VMCheckpointError) -> Result {
    guard source != target else {
      throw VMCheckpointError(
        .invalidArgument,
        "there is nothing to convert from \(source.rawValue) to \(target.rawValue)",
        hint: "name two formats"
      )
    }
    if let ram { return try convert(document, showing: ram) }
    var warnings: [String] = []
    var interface = try read(document, &warnings)
    if let guestOSID { interface.guestOSID = guestOSID }
    if let hypercallVariant { interface.hypercallVariant = hypercallVariant }
    if let tscFrequencyHz, interface.referenceTSC != nil {
      interface.referenceTSC?.contents = .frequency(hz: tscFrequencyHz)
    }
    try interface.check(layout: layout, hasReferenceTSC: hasReferenceTSC)
    return Result(
      text: try write(interface, &warnings),
      overlayCount: interface.overlayCount,
      warnings: warnings
    )
  }

  /// Converts registers with what RAM shows at the pages that they place.
  private func convert(
    _ document: [UInt8],
    showing ram: RAMFile
  ) throws(VMCheckpointError) -> Result {
    guard source == .msrs, target == .overlaysJSON else {
      throw VMCheckpointError(
        .invalidArgument,
        "RAM says nothing for a conversion from \(source.rawValue) to \(target.rawValue)",
        hint: "--ram goes with --from msrs --to overlays-json"
      )
    }
    var values = try HyperVInterface.RegisterValues(json: document)
    if let guestOSID { values.registers[GuestOSID.msrIndex] = guestOSID }
    let (descriptor, layout) = try FileRAMReader.openFile(path: ram.path) {
      (byteCount) throws(VMCheckpointError) -> RAMLayout in
      if let layout = ram.layout { return layout }
      return try RAMLayout(contiguousByteCount: byteCount)
    }
    let files = OpenRAMFiles([.init(descriptor: descriptor, path: ram.path)])
    let placement = RAMPlacement(flat: layout)
    var found = try HyperVMSRs([values.registers]).overlayDocument(
      ramPage: { (pfn: PFN) throws(VMCheckpointError) -> PageContents? in
        guard layout.contains(pfn) else { return nil }
        return try files.page(at: pfn, placement)
      }
    )
    let interface = HyperVInterface(values)
    try interface.check(layout: layout, hasReferenceTSC: hasReferenceTSC)
    let hz = tscFrequencyHz ?? values.tscFrequencyHz
    for index in found.records.indices where found.records[index].underlay != nil {
      let record = found.records[index]
      guard
        let shown = try files.page(at: record.overlay.pfn, placement),
        let bare = try parametersOverBareRAM(record.overlay, shown, hz)
      else { continue }
      let overlay = record.overlay
      found.records[index] = OverlayRecord(
        overlay: Overlay(pfn: overlay.pfn, parameters: bare, msrBits: overlay.msrBits)
      )
    }
    return Result(text: found.encodedJSON(), overlayCount: found.records.count, warnings: [])
  }

  /// What an overlay says where RAM does not show it; `nil` where RAM does.
  private func parametersOverBareRAM(
    _ overlay: Overlay,
    _ shown: PageContents,
    _ hz: UInt64?
  ) throws(VMCheckpointError) -> OverlayParameters? {
    switch overlay.kind {
    case .hypercall:
      guard !HypercallVariant.allCases.contains(where: { shown.bytes.starts(with: $0.code) }) else {
        return nil
      }
      return .hypercall(hypercallVariant ?? .returnNotSupported)
    case .referenceTSC where shown.isZero:
      guard let hz else { throw HyperVInterface.unknownFrequency }
      return .referenceTSC(.frequency(hz: hz))
    default: return nil
    }
  }

  private func read(
    _ document: [UInt8],
    _ warnings: inout [String]
  ) throws(VMCheckpointError) -> HyperVInterface {
    switch source {
    case .propolisRON: return try HyperVInterface(propolisRON: document)
    case .propolisJSON: return try HyperVInterface(propolisJSON: document)
    case .msrs:
      let values = try HyperVInterface.RegisterValues(json: document)
      warnings += values.writtenByGuest.map {
        "the \($0.kind) page at PFN \($0.pfn) is left out: no register holds its contents; give the RAM that was "
          + "captured with --ram"
      }
      return HyperVInterface(values)
    case .overlaysJSON:
      let overlays = try OverlayDocument(json: document)
      warnings += overlays.records.filter { $0.underlay != nil }.map {
        "RAM shows the \($0.overlay), and \(target.rawValue) goes with bare RAM"
      }
      return try HyperVInterface(overlays)
    }
  }

  private func write(
    _ interface: HyperVInterface,
    _ warnings: inout [String]
  ) throws(VMCheckpointError) -> String {
    switch target {
    case .propolisRON: return try interface.propolisRON() + "\n"
    case .propolisJSON: return try interface.propolisJSON() + "\n"
    case .msrs:
      if case .page? = interface.referenceTSC?.contents {
        warnings.append("the reference TSC page's sequence, scale and offset are in no register")
      }
      return interface.registersJSON()
    case .overlaysJSON:
      let document = try interface.overlayDocument()
      if interface.referenceTSC != nil,
        !document.records.contains(where: { $0.overlay.kind == .referenceTSC })
      {
        warnings.append(
          "the VM has a reference TSC that the guest has not enabled, and overlays-json does not "
            + "say so"
        )
      }
      return document.encodedJSON()
    }
  }
}
