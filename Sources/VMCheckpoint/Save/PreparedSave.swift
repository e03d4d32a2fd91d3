/// A save whose source has captured its guest, and whose every part that needs no store is checked.
struct PreparedSave {
  /// What is asked for. Of its overlays and device states, those of ``guest`` count.
  let request: SaveRequest
  let guest: PreparedGuest
  let name: String?
  let vm: String
  let names: CaptureNames
  var reader: any RAMReader

  /// Lets the request's source capture the guest, and saves it.
  ///
  /// - Parameter turn: The save's turn at the store, which is taken before a VM is stopped.
  /// - Throws: As ``Store/save(_:control:)``; and ``VMCheckpointError`` that names what is wrong with
  ///   the request.
  static func with(
    _ request: SaveRequest,
    turn: SaveTurn,
    control: OperationControl
  ) throws(VMCheckpointError) -> SaveResult {
    // Errors in the rest of the request are better reported before anything is captured.
    if let name = request.name { try SnapshotName.check(name) }
    if let vm = request.vm { try SnapshotName.check(vm, what: "VM name") }
    for (key, value) in request.tags { try SnapshotTag.check(key: key, value: value) }
    let start = MonotonicClock.nowSeconds
    let context = CaptureContext(request: request, control: control, destination: turn)
    var result: SaveResult
    do throws(VMCheckpointError) {
      result = try request.input.source.capture(context) { guest throws(VMCheckpointError) in
        try turn.save(PreparedSave(request, guest))
      }
    } catch {
      turn.abandonCandidates()
      throw error
    }
    result.pausedSeconds = context.livePause?.seconds
    result.pauseMethod = context.livePause?.method
    // With all that came before there was something to store.
    result.durationSeconds = MonotonicClock.nowSeconds - start
    return result
  }

  /// What RAM is read from.
  var saveSource: SaveSource {
    SaveSource(
      reader: reader,
      substitution: guest.substitution,
      compression: request.compression,
      check: guest.checkWhileStopped
    )
  }

  /// The VM that a snapshot of `request` belongs to.
  ///
  /// - Parameter name: What the VMM calls the VM, if it does.
  static func vm(_ request: SaveRequest, calledByVMM name: String?) -> String {
    if let vm = request.vm { return vm }
    let called = name.flatMap { $0.isEmpty ? nil : $0 } ?? request.input.source.names.vm
    return SnapshotName.sanitized(called, maximumByteCount: SnapshotName.maximumByteCount)
  }

  /// Checks `request` against what was captured.
  ///
  /// - Throws: ``VMCheckpointError`` that names what is wrong.
  private init(_ request: SaveRequest, _ captured: CapturedGuest) throws(VMCheckpointError) {
    self.request = request
    var names = request.input.source.names
    if let vmName = captured.vmName, !vmName.isEmpty {
      (names.vm, names.snapshot) = (vmName, vmName)
    }
    self.names = names
    name = request.name
    vm = Self.vm(request, calledByVMM: captured.vmName)
    guest = try PreparedGuest(request, captured)
    reader = try guest.makeReader()
  }

  /// The default name: the source's name and the time.
  func defaultName() -> String {
    let time = UTCTime.nowForNames
    let room = SnapshotName.maximumByteCount - time.utf8.count - 8
    return "\(SnapshotName.sanitized(names.snapshot, maximumByteCount: room))-\(time)"
  }
}
