import SystemPackage

/// A save request whose every part that needs no store is checked, with its source open.
struct PreparedSave {
  let request: SaveRequest
  let name: String?
  let vm: String
  /// The source's own name, for naming the snapshot and the VM.
  let sourceName: String
  /// What stands in the snapshot's `source` column.
  let sourceDescription: String
  let reader: any RAMReader
  let substitution: UnderlaySubstitution

  /// Called when all of RAM was read, right before the snapshot is made complete; what it throws fails
  /// the save.
  var checkBeforeCompletion: QEMULiveSave.Check?

  /// Checks `request` and opens its source.
  ///
  /// - Throws: ``VMCheckpointError`` that names what is wrong; nothing is left open.
  ///
  /// - Parameter received: The RAM of a source that was received before.
  private init(
    _ request: SaveRequest,
    received: QEMUCapturedRAM? = nil,
    control: OperationControl
  ) throws(VMCheckpointError) {
    var request = request
    if let name = request.name { try SnapshotName.check(name) }
    name = request.name
    for (key, value) in request.tags { try SnapshotTag.check(key: key, value: value) }
    let defaultVM: String
    switch request.input {
    case .file(let path):
      sourceName = Self.lastComponent(path)
      defaultVM = sourceName
      sourceDescription = "raw:\(path)"
      let (descriptor, layout) = try FileRAMReader.openFile(path: path) {
        (byteCount) throws(VMCheckpointError) in
        try Self.layout(request.layout, fileByteCount: byteCount)
      }
      do throws(VMCheckpointError) {
        substitution = UnderlaySubstitution(plan: try request.overlays.validated(in: layout))
      } catch {
        try? descriptor.close()
        throw error
      }
      reader = FileRAMReader(
        [.init(descriptor: descriptor, path: path)],
        layout: layout,
        keptPFNs: substitution.pfns
      )
    case .stream(let fileDescriptor, let streamName):
      sourceName = streamName
      defaultVM = sourceName
      sourceDescription = "raw:-"
      let layout = try Self.streamLayout(request.layout)
      // Without a layout RAM ends where the stream does, and overlays are checked again then.
      let provisional: RAMLayout
      if let layout {
        provisional = layout
      } else {
        provisional = try RAMLayout(contiguousByteCount: RAMLayout.gpaLimit)
      }
      substitution = UnderlaySubstitution(plan: try request.overlays.validated(in: provisional))
      reader = try StreamRAMReader(
        fileDescriptor: fileDescriptor,
        name: streamName,
        layout: layout,
        cancellation: control.cancellation
      )
    case .propolis(let path):
      (sourceName, defaultVM) = PropolisArchive.names(fileName: Self.lastComponent(path))
      sourceDescription = "propolis:\(path)"
      let opened = try PropolisArchive.open(path: path)
      do throws(VMCheckpointError) {
        try opened.complete(&request, path: path)
        substitution = UnderlaySubstitution(
          plan: try request.overlays.validated(in: opened.archive.layout)
        )
      } catch {
        try? opened.descriptor.close()
        throw error
      }
      reader = FileRAMReader(
        [.init(descriptor: opened.descriptor, path: path)],
        layout: opened.archive.layout,
        placement: opened.archive.placement,
        keptPFNs: substitution.pfns
      )
    case .qemuStream(let source):
      sourceName = Self.lastComponent(source.name)
      defaultVM = sourceName
      sourceDescription = "qemu-stream:\(source.description)"
      (reader, substitution) = try Self.reader(of: received!, request)
    case .qemuLive(let source):
      sourceName = Self.lastComponent(source.socketPath)
      defaultVM = sourceName
      sourceDescription = "qemu:\(source.socketPath)"
      (reader, substitution) = try Self.reader(of: received!, request)
    }
    self.request = request
    try Self.check(request.deviceStates)
    if let vm = request.vm {
      try SnapshotName.check(vm, what: "VM name")
      self.vm = vm
    } else {
      vm = SnapshotName.sanitized(
        defaultVM,
        maximumByteCount: SnapshotName.maximumByteCount
      )
    }
  }

  /// Receives what must be received first, checks `request`, opens its source, and saves it.
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
    switch request.input {
    case .file, .stream, .propolis: return try turn.save(PreparedSave(request, control: control))
    case .qemuStream, .qemuLive: break
    }
    // What is wrong with the rest of the request is better told before anything is received.
    if let name = request.name { try SnapshotName.check(name) }
    if let vm = request.vm { try SnapshotName.check(vm, what: "VM name") }
    for (key, value) in request.tags { try SnapshotTag.check(key: key, value: value) }
    let directory = try StoreLocation(storePath).directory
    func save(
      _ capture: QEMUStreamCapture,
      _ live: QEMULiveRAM?,
      _ check: QEMULiveSave.Check?
    ) throws(VMCheckpointError) -> SaveResult {
      defer { withExtendedLifetime((capture, live)) {} }
      var request = request
      request.deviceStates += try capture.deviceStates()
      let received = try capture.ram(
        request.layout,
        machineLayout: live?.layout,
        paths: live?.paths
      )
      var prepared = try PreparedSave(request, received: received, control: control)
      prepared.checkBeforeCompletion = check
      return try turn.save(prepared)
    }
    switch request.input {
    case .file, .stream, .propolis: preconditionFailure("nothing is received")
    case .qemuStream(let source):
      return try save(
        QEMUStreamCapture(source, spoolDirectory: directory, control: control),
        nil,
        nil
      )
    case .qemuLive(let source):
      let live = QEMULiveSave(
        source: source,
        request: request,
        spoolDirectory: directory,
        control: control
      )
      var (saved, pausedSeconds) = try live.run(turn) {
        (capture, ram, check) throws(VMCheckpointError) in
        try save(capture, ram, check)
      }
      saved.pausedSeconds = pausedSeconds
      return saved
    }
  }

  private static func reader(
    of received: QEMUCapturedRAM,
    _ request: SaveRequest
  ) throws(VMCheckpointError) -> (any RAMReader, UnderlaySubstitution) {
    let substitution = UnderlaySubstitution(
      plan: try request.overlays.validated(in: received.layout)
    )
    let reader = FileRAMReader(
      try received.open(),
      layout: received.layout,
      placement: received.placement,
      keptPFNs: substitution.pfns
    )
    return (reader, substitution)
  }

  /// The default name: the source's name and the time.
  func defaultName() -> String {
    let time = UTCTime.nowForNames
    let room = SnapshotName.maximumByteCount - time.utf8.count - 8
    return "\(SnapshotName.sanitized(sourceName, maximumByteCount: room))-\(time)"
  }

  private static func lastComponent(_ path: String) -> String {
    FilePath(path).lastComponent?.string ?? "ram"
  }

  private static func layout(
    _ source: RAMLayoutSource,
    fileByteCount: UInt64
  ) throws(VMCheckpointError) -> RAMLayout {
    switch source {
    case .contiguous: try RAMLayout(contiguousByteCount: fileByteCount)
    case .qemu(let machine, let ramByteCount):
      try machine.layout(ramByteCount: ramByteCount ?? fileByteCount)
    case .regions(let layout): layout
    }
  }

  private static func streamLayout(
    _ source: RAMLayoutSource
  ) throws(VMCheckpointError) -> RAMLayout? {
    switch source {
    case .contiguous: return nil
    case .regions(let layout): return layout
    case .qemu(let machine, let ramByteCount):
      guard let ramByteCount else {
        throw VMCheckpointError(
          .invalidArgument,
          "the RAM layout of a \(machine.rawValue) machine depends on the RAM's size, which a "
            + "stream does not tell before its end",
          hint: "give the size with --ram-size"
        )
      }
      return try machine.layout(ramByteCount: ramByteCount)
    }
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
