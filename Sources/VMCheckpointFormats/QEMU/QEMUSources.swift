public import VMCheckpoint

/// A QEMU migration stream, as something to save.
struct QEMUStreamCaptureSource: CaptureSource {
  let source: QEMUStreamSource

  var path: String? {
    guard case .file(let path) = source else { return nil }
    return path
  }

  var names: CaptureNames {
    let name = CaptureNames.lastComponent(of: source.name)
    return CaptureNames(
      snapshot: name,
      vm: name,
      description: "qemu-stream:\(source.description)"
    )
  }

  func capture(
    _ context: CaptureContext,
    _ save: (CapturedGuest) throws(VMCheckpointError) -> SaveResult
  ) throws(VMCheckpointError) -> SaveResult {
    let capture = try QEMUStreamCapture(
      source,
      spoolDirectory: context.spoolDirectory(),
      control: context.control
    )
    // RAM is read from the capture's spool.
    defer { withExtendedLifetime(capture) {} }
    return try save(capture.guest(context.request.layout))
  }
}

/// A VM that QEMU runs, as something to save.
struct QEMULiveCaptureSource: CaptureSource {
  let source: QEMULiveSource

  var path: String? { nil }

  var names: CaptureNames {
    let name = CaptureNames.lastComponent(of: source.socketPath)
    return CaptureNames(snapshot: name, vm: name, description: "qemu:\(source.socketPath)")
  }

  func capture(
    _ context: CaptureContext,
    _ save: (CapturedGuest) throws(VMCheckpointError) -> SaveResult
  ) throws(VMCheckpointError) -> SaveResult {
    let live = QEMULiveSave(
      source: source,
      request: context.request,
      spoolDirectory: try context.spoolDirectory(),
      control: context.control
    )
    var (saved, pausedSeconds) = try live.run(takeTurn: context.takeTurn) {
      (capture, ram, check) throws(VMCheckpointError) in
      defer { withExtendedLifetime((capture, ram)) {} }
      var guest = try capture.guest(
        context.request.layout,
        machineLayout: ram.layout,
        paths: ram.paths
      )
      guest.checkBeforeCompletion = check
      return try save(guest)
    }
    saved.pausedSeconds = pausedSeconds
    return saved
  }
}

extension QEMUStreamCapture {
  /// What is to be saved; valid as long as this value lives. The parameters are those of
  /// ``ram(_:machineLayout:paths:)``.
  func guest(
    _ layout: RAMLayoutSource,
    machineLayout: RAMLayout? = nil,
    paths: [String]? = nil
  ) throws(VMCheckpointError) -> CapturedGuest {
    let ram = try ram(layout, machineLayout: machineLayout, paths: paths)
    var guest = CapturedGuest(
      layout: ram.layout,
      placement: ram.placement,
      files: try ram.open()
    )
    guest.deviceStates = try deviceStates()
    return guest
  }
}

extension RAMInput {
  /// A QEMU migration stream: RAM and device state. The layout follows from the machine's type,
  /// unless the request gives regions or a machine.
  public static func qemuStream(_ source: QEMUStreamSource) -> RAMInput {
    RAMInput(QEMUStreamCaptureSource(source: source))
  }

  /// A VM that QEMU runs: RAM and device state. The layout as of a migration stream.
  public static func qemuLive(_ source: QEMULiveSource) -> RAMInput {
    RAMInput(QEMULiveCaptureSource(source: source))
  }
}
