public import VMCheckpoint

/// A QEMU migration stream, as something to save.
struct QEMUStreamCaptureSource: CaptureSource {
  let source: QEMUStreamSource

  var path: String? { source.path }

  var names: CaptureNames { source.names(scheme: "qemu-stream") }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    let capture = try QEMUStreamCapture(
      source,
      spoolDirectory: context.spoolDirectory(),
      control: context.control
    )
    // RAM is read from the capture's spool.
    defer { withExtendedLifetime(capture) {} }
    return try use(capture.guest(context))
  }
}

/// A VM that QEMU runs, as something to save.
struct QEMULiveCaptureSource: CaptureSource {
  let source: QEMULiveSource

  var path: String? { nil }

  var names: CaptureNames {
    // Where QEMU was given a name (-name), that counts.
    let name = CaptureNames.tellingComponent(of: source.socketPath)
    return CaptureNames(snapshot: name, vm: name, description: "qemu:\(source.socketPath)")
  }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    let live = QEMULiveSave(
      source: source,
      request: context.request,
      spoolDirectory: try context.spoolDirectory(),
      control: context.control
    )
    let (outcome, pause) = try live.run(
      takeTurn: context.takeTurn,
      storeCandidates: context.storeCandidates
    ) { (capture, ram, pause) throws(VMCheckpointError) in
      defer { withExtendedLifetime((capture, ram)) {} }
      var guest = try capture.guest(
        context,
        machineLayout: ram.layout,
        paths: ram.paths
      )
      guest.checkBeforeCompletion = { () throws(VMCheckpointError) in try pause.check() }
      guest.letGoOn = { () throws(VMCheckpointError) in
        pause.method = .twoPass
        try pause.end()
      }
      if let limit = pause.limit {
        guest.checkWhileStopped = { () throws(VMCheckpointError) in try limit.check() }
      }
      guest.vmName = capture.vmName
      return try use(guest)
    }
    context.note(pause)
    return outcome
  }
}

extension QEMUStreamCapture {
  /// What is to be saved; valid as long as this value lives. The last parameters are those of
  /// ``ram(_:machineLayout:paths:)``.
  func guest(
    _ context: CaptureContext,
    machineLayout: RAMLayout? = nil,
    paths: [String]? = nil
  ) throws(VMCheckpointError) -> CapturedGuest {
    let ram = try ram(context.request.layout, machineLayout: machineLayout, paths: paths)
    if !ram.absent.isEmpty {
      context.control.onWarning?(
        "\(title): \(ram.absent.pageCount) pages were not sent, as with free page hints of virtio-balloon, and are "
          + "recorded as absent"
      )
    }
    var guest = try ram.guest()
    guest.deviceStates = try deviceStates()
    if context.looksForOverlays, let readPage = guest.readPage {
      let overlays = try overlays(ramPage: readPage)
      guest.overlays = FoundOverlays(overlays, origin: Self.overlayOrigin)
    }
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
