/// A captured guest with what a request adds to it, checked as far as that needs neither a store nor its RAM.
struct PreparedGuest {
  /// Where RAM lies; `nil` when that is known only at a stream's end.
  let layout: RAMLayout?
  /// Those of the source and of the request.
  let deviceStates: [DeviceState]
  /// Those of the source, or else of the request. They are checked against `layout`, or against all that RAM
  /// may be.
  let overlays: OverlayDocument
  /// What the overlays were found in; `nil`: the request describes them, or there is none.
  let overlayOrigin: String?
  let substitution: UnderlaySubstitution
  /// The pages whose content is unknown: those that the source leaves out, but for underlays that are given.
  let absent: AbsentPages
  private let captured: CapturedGuest

  /// Checks `request` against what was captured.
  ///
  /// - Throws: ``VMCheckpointError`` that names what is wrong.
  init(_ request: SaveRequest, _ captured: CapturedGuest) throws(VMCheckpointError) {
    self.captured = captured
    layout = captured.layout
    deviceStates = captured.deviceStates + request.deviceStates
    try Self.check(deviceStates)
    let found = captured.overlays
    overlays = found?.document ?? request.overlays
    overlayOrigin = found.flatMap { $0.document.records.isEmpty ? nil : $0.origin }
    // Without a layout RAM ends where the stream does, and overlays are checked again then.
    let layout: RAMLayout
    if let known = captured.layout {
      layout = known
    } else {
      layout = try RAMLayout(contiguousByteCount: RAMLayout.gpaLimit)
    }
    if let problem = captured.absent.problem(in: layout) {
      throw VMCheckpointError(.invalidData, problem)
    }
    let plan = try overlays.validated(in: layout)
    substitution = UnderlaySubstitution(plan: plan, absent: captured.absent)
    absent = captured.absent.removing(substitution.givenPFNs)
  }

  /// Makes the reader of RAM.
  ///
  /// - Parameter keptPFNs: PFNs that must be read even in a hole, beside those that overlays cover; ascending.
  func makeReader(keptPFNs: [UInt64] = []) throws(VMCheckpointError) -> any RAMReader {
    let own = substitution.pfns
    guard !keptPFNs.isEmpty else { return try captured.makeReader(own) }
    return try captured.makeReader(Set(own + keptPFNs).sorted())
  }

  /// Whether RAM can be read in any order and more than once.
  var isRereadable: Bool { captured.readPage != nil }

  /// The page at `pfn` as it was captured, of a guest that is rereadable; `nil` outside RAM.
  func page(at pfn: PFN) throws(VMCheckpointError) -> PageContents? { try captured.readPage?(pfn) }

  /// Called when all of RAM was read, right before what is made of it is complete; what it throws fails that.
  var checkBeforeCompletion: CapturedGuest.Check? { captured.checkBeforeCompletion }

  /// Called by several threads while RAM is read; what it throws ends that.
  var checkWhileStopped: CapturedGuest.ConcurrentCheck? { captured.checkWhileStopped }

  /// Called when RAM was read and kept, and may change from then on.
  var letGoOn: CapturedGuest.Check? { captured.letGoOn }

  /// Names pages that the source leaves out and that overlays cover.
  ///
  /// - Parameter pfns: The pages that overlays cover, ascending.
  func absentUnderlayWarning(_ pfns: [PFN]) -> String? {
    let pfns = pfns.filter(absent.contains)
    guard let first = pfns.first else { return nil }
    return
      "overlays cover \(pfns.count) of the absent pages, the first at PFN \(hexString(first.rawValue)); what "
      + "is beneath them is not known, and counts as zero"
  }

  private static func check(_ states: [DeviceState]) throws(VMCheckpointError) {
    var names = Set<String>()
    for state in states {
      try SnapshotName.check(state.name, what: "device state name")
      try SnapshotName.check(state.format, what: "device state format")
      guard state.data.count <= DeviceState.maximumByteCount else {
        throw VMCheckpointError(
          .invalidArgument,
          "device state \(quotedName(state.name)) has \(state.data.count) bytes, and at most "
            + "\(DeviceState.maximumByteCount) can be stored"
        )
      }
      guard names.insert(state.name).inserted else {
        throw VMCheckpointError(
          .invalidArgument,
          "two device states are called \(quotedName(state.name))"
        )
      }
    }
  }
}
