/// A save whose source has captured its guest, and whose every part that needs no store is checked.
struct PreparedSave {
  let request: SaveRequest
  let name: String?
  let vm: String
  let names: CaptureNames
  let reader: any RAMReader
  let substitution: UnderlaySubstitution
  /// What the overlays were found in; `nil`: the request describes them, or there is none.
  let overlayOrigin: String?
  /// The pages whose content is unknown: those that the source leaves out, but for underlays that are given.
  let absent: AbsentPages

  /// Called when all of RAM was read, right before the snapshot is made complete; what it throws fails
  /// the save.
  let checkBeforeCompletion: CapturedGuest.Check?

  /// Lets the request's source capture the guest, and saves it.
  ///
  /// - Parameters:
  ///   - storePath: The store, which need not be there: what is received is put down beside it for a
  ///     moment.
  ///   - turn: The save's turn at it, which is taken before a VM is stopped.
  /// - Throws: As ``Store/save(_:control:)``; and ``VMCheckpointError`` that names what is wrong with
  ///   the request.
  static func with(
    _ request: SaveRequest,
    storePath: String,
    turn: SaveTurn,
    control: OperationControl
  ) throws(VMCheckpointError) -> SaveResult {
    // Errors in the rest of the request are better reported before anything is captured.
    if let name = request.name { try SnapshotName.check(name) }
    if let vm = request.vm { try SnapshotName.check(vm, what: "VM name") }
    for (key, value) in request.tags { try SnapshotTag.check(key: key, value: value) }
    let context = CaptureContext(
      request: request,
      control: control,
      storePath: storePath,
      turn: turn
    )
    return try request.input.source.capture(context) { guest throws(VMCheckpointError) in
      try turn.save(PreparedSave(request, guest))
    }
  }

  /// Checks `request` against what was captured.
  ///
  /// - Throws: ``VMCheckpointError`` that names what is wrong.
  private init(_ request: SaveRequest, _ guest: CapturedGuest) throws(VMCheckpointError) {
    var request = request
    request.deviceStates = guest.deviceStates + request.deviceStates
    var overlayOrigin: String?
    if let found = guest.overlays {
      request.overlays = found.document
      if !found.document.records.isEmpty { overlayOrigin = found.origin }
    }
    self.overlayOrigin = overlayOrigin
    try Self.check(request.deviceStates)
    names = request.input.source.names
    name = request.name
    vm =
      request.vm
      ?? SnapshotName.sanitized(names.vm, maximumByteCount: SnapshotName.maximumByteCount)
    // Without a layout RAM ends where the stream does, and overlays are checked again then.
    let layout: RAMLayout
    if let known = guest.layout {
      layout = known
    } else {
      layout = try RAMLayout(contiguousByteCount: RAMLayout.gpaLimit)
    }
    if let problem = guest.absent.problem(in: layout) {
      throw VMCheckpointError(.invalidData, problem)
    }
    let plan = try request.overlays.validated(in: layout)
    substitution = UnderlaySubstitution(plan: plan, absent: guest.absent)
    absent = guest.absent.removing(substitution.givenPFNs)
    reader = try guest.makeReader(substitution.pfns)
    checkBeforeCompletion = guest.checkBeforeCompletion
    self.request = request
  }

  /// The default name: the source's name and the time.
  func defaultName() -> String {
    let time = UTCTime.nowForNames
    let room = SnapshotName.maximumByteCount - time.utf8.count - 8
    return "\(SnapshotName.sanitized(names.snapshot, maximumByteCount: room))-\(time)"
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
