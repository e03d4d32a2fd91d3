import Glibc
import SystemPackage
import VMCheckpoint

/// Saves a VM that QEMU runs.
///
/// QEMU migrates the VM into a pipe that this process reads. Where RAM can be read in place, the
/// stream has device state only. RAM is read twice: while the guest runs, so that most of it is stored before, and
/// while it is stopped, to find what differs and to keep that in memory (``RunningRAM``). Otherwise RAM comes
/// through the pipe while the guest runs on; what it writes meanwhile comes once more. The guest is
/// stopped for the rest, and goes on as soon as all has arrived. Where QEMU can take a background snapshot of such RAM
/// (``QEMUSettings``), the guest is stopped for its devices only.
///
/// The guest is stopped by the migration's own end, and not before. So the stream remembers that the
/// guest ran, and a user who restores it has a guest that runs. Without KVM nothing of a guest can be
/// sent while it runs (``QEMUVirtualMachine/tracksWrites``): it is stopped first, and its run state put
/// right.
struct QEMULiveSave {
  /// After so many passes over RAM, or after so long, the guest is stopped whatever is left to send:
  /// it writes faster than it can be read.
  private static let maximumPassCount = 3
  private static let maximumLiveSeconds = 30.0
  private static let unlimitedBandwidth: Int64 = 1 << 40
  /// The longest that QEMU allows: always enough to send the rest.
  private static let unlimitedDowntimeMilliseconds: Int64 = 2_000_000

  let source: QEMULiveSource
  /// What is asked of the save beside the VM's state.
  let request: SaveRequest
  let spoolDirectory: String
  let control: OperationControl

  /// Captures the VM and calls `save` with what was captured.
  ///
  /// - Parameters:
  ///   - takeTurn: Is called before anything of the VM is changed.
  ///   - storeCandidates: Is called then with RAM that can be read in place, while the guest runs.
  ///   - save: Ends the pause when RAM was read and kept. Otherwise it checks the pause when all of RAM was
  ///     read, before the snapshot is made complete.
  /// - Returns: What `save` returned, and for how long the guest was stopped, and how that was kept short; `nil`
  ///   when it did not run before or does not go on.
  /// - Throws: ``VMCheckpointError``. The VM runs again if it did before, and its migration settings
  ///   are as they were, unless QEMU does not answer any more.
  func run<Result>(
    takeTurn: () throws(VMCheckpointError) -> Void,
    storeCandidates: (RunningRAM) throws(VMCheckpointError) -> RunningRAMReport?,
    _ save: (QEMUStreamCapture, QEMULiveRAM, QEMUPause) throws(VMCheckpointError) -> Result
  ) throws(VMCheckpointError) -> (result: Result, pause: LivePause?) {
    let client = try QMPClient(path: source.socketPath, cancellation: control.cancellation)
    _ = try QEMUVirtualMachine(client)
    try takeTurn()
    // It may have changed while another save was waited for.
    var machine = try QEMUVirtualMachine(client)
    // A question that was not asked because of a cancellation must not become a warning.
    try control.cancellation.check()
    try check(machine)
    let limit = source.maximumPauseSeconds.map(QEMUPauseLimit.init)
    if let ram = try runningRAM(machine), let report = try storeCandidates(ram) {
      if let limit, let seconds = report.lookSeconds { try limit.check(estimate: seconds) }
      // That took a while, and the VM's user is free to change it.
      machine = try QEMUVirtualMachine(client)
      try control.cancellation.check()
      try check(machine)
    }
    for warning in machine.ram.warnings { control.onWarning?(warning) }
    for warning in machine.commandLineWarnings { control.onWarning?(warning) }
    for warning in machine.disks?.warnings ?? [] { control.onWarning?(warning) }
    let key = machine.commandLine == nil ? nil : commandKey(machine)
    let settings = QEMUSettings(machine, leavesStopped: source.leavesStopped)
    let pipe = try QEMUStreamPipe()
    let undo = QEMUUndo(
      capabilities: settings.original,
      parameters: machine.parameters,
      wasRunning: machine.state == "running",
      stream: pipe.place
    )
    let guardProcess: QEMUGuardProcess? =
      source.guardCommand.isEmpty
      ? nil
      : try QEMUGuardProcess(
        command: source.guardCommand,
        undo: undo,
        monitor: client.descriptor
      )
    client.check = { () throws(VMCheckpointError) in try guardProcess?.requireIdle() }
    let pause = QEMUPause(
      client,
      undo,
      guardProcess,
      leavesStopped: source.leavesStopped,
      limit: limit
    )
    var result: Result?
    do throws(VMCheckpointError) {
      let isBackground = try prepare(client, settings, machine)
      // While a background snapshot is sent the guest writes to its disks. What it writes after this moment makes
      // them others than those recorded, also if it was before the snapshot's.
      let disksBefore = isBackground ? machine.disks?.record() : nil
      let stopsFirst = undo.wasRunning && !machine.tracksWrites && !isBackground
      client.forgetStops()
      if stopsFirst { try client.run("stop") }
      var capture = try capture(client, machine, pipe, limit, isBackground: isBackground)
      if stopsFirst, !capture.resume() {
        control.onWarning?("the restored guest will be stopped until QMP's cont")
      }
      capture.vmName = machine.name
      capture.record.qemuVersion = machine.version
      capture.record.commandLine = machine.commandLine
      capture.record.workingDirectory = machine.workingDirectory
      capture.record.disks = isBackground ? disksBefore : machine.disks?.record()
      if let key { capture.prove(with: key) }
      // RAM that came with the stream is here already.
      if capture.hasRAM {
        pause.method = isBackground ? .backgroundSnapshot : stopsFirst ? .stopped : .precopy
        try pause.end()
      }
      result = try save(capture, machine.ram, pause)
      try pause.check()
      try pause.end()
    } catch {
      if guardProcess?.hasActed == true {
        try concludeStopped(client, undo, guardProcess!, isSaved: result != nil)
        return (result!, nil)
      }
      let failure = error
      do throws(VMCheckpointError) {
        // A guest that went on is its user's again.
        if !pause.hasEnded || source.leavesStopped {
          try undo.perform(client, resumes: result == nil || !source.leavesStopped)
        }
      } catch {
        // The guard has another try at it.
        guardProcess?.leave()
        guard result != nil else { throw failure }
        throw VMCheckpointError(
          error.code,
          "the snapshot is saved, but the VM could not be put back as it was: \(error.message)",
          hint: error.hint
        )
      }
      guard result != nil else {
        guardProcess?.dismiss()
        throw failure
      }
    }
    guardProcess?.dismiss()
    return (result!, pause.report)
  }

  /// RAM that can be read while the guest runs; `nil` when that is of no use.
  private func runningRAM(_ machine: QEMUVirtualMachine) throws(VMCheckpointError) -> RunningRAM? {
    // A guest that does not go on loses nothing by being stopped earlier.
    guard machine.state == "running", !source.leavesStopped, let paths = machine.ram.paths,
      let blocks = machine.ram.blocks, let type = machine.type
    else { return nil }
    let layout = try QEMUCapturedRAM.layout(
      request.layout,
      machineLayout: machine.ram.layout,
      machine: type,
      blocks: blocks
    )
    let placement = RAMPlacement(
      layout,
      blocks: blocks.enumerated().map { index, block in
        RAMPlacement.Block(byteCount: block.byteCount, fileIndex: index, fileOffset: 0)
      }
    )
    let ram = QEMUCapturedRAM(
      layout: layout,
      paths: paths,
      placement: placement,
      inPlace: nil,
      absent: AbsentPages()
    )
    let owner = machine.ram
    var running = RunningRAM(vmName: machine.name, layout: layout) { () throws(VMCheckpointError) in
      // The paths lead to descriptors that it has.
      try withExtendedLifetime(owner) { () throws(VMCheckpointError) in
        try ram.guest().makeReader([])
      }
    }
    running.measuresLook = source.maximumPauseSeconds != nil
    return running
  }

  /// Ends a save whose guard has acted: the process was stopped for too long while the VM was paused.
  ///
  /// - Throws: ``VMCheckpointError`` that says so, when the snapshot is not complete.
  private func concludeStopped(
    _ client: QMPClient,
    _ undo: QEMUUndo,
    _ guardProcess: QEMUGuardProcess,
    isSaved: Bool
  ) throws(VMCheckpointError) {
    var failure: VMCheckpointError?
    do throws(VMCheckpointError) { try guardProcess.requireIdle() } catch { failure = error }
    // Until the guard has ended, both would read the monitor's replies. A command that was on its way
    // when this process was stopped may have come after the guard's.
    guardProcess.leave()
    if !client.isBroken { try? undo.perform(client, resumes: true) }
    guard isSaved else { throw failure! }
    if source.leavesStopped {
      control.onWarning?("the save was stopped for a while, and so the VM was let go on")
    }
  }

  /// This user's key, or a warning: a save without it is as good, but for whoever runs its command line.
  private func commandKey(_ machine: QEMUVirtualMachine) -> CommandKey? {
    let problem: String
    if machine.belongsToThisUser {
      do throws(VMCheckpointError) {
        return try CommandKey.loadOrMake(in: UserStateFolder())
      } catch {
        problem = "\(error)"
      }
    } else {
      problem = "QEMU runs as another user"
    }
    control.onWarning?(
      "the recorded command line has no proof that it is this user's, and needs --trust-command to run: "
        + problem
    )
    return nil
  }

  /// Checks what would keep the VM from being saved, as far as that is known before it is captured.
  private func check(_ machine: QEMUVirtualMachine) throws(VMCheckpointError) {
    guard let blocks = machine.ram.blocks, let type = machine.type else { return }
    let layout = try QEMUCapturedRAM.layout(
      request.layout,
      machineLayout: machine.ram.layout,
      machine: type,
      blocks: blocks
    )
    _ = try request.overlays.validated(in: layout)
  }

  /// Changes the settings.
  ///
  /// - Returns: Whether a background snapshot is to be taken: QEMU accepts it.
  private func prepare(
    _ client: QMPClient,
    _ settings: QEMUSettings,
    _ machine: QEMUVirtualMachine
  ) throws(VMCheckpointError) -> Bool {
    var isBackground = false
    if let capabilities = settings.forBackground {
      do throws(VMCheckpointError) {
        try client.set(capabilities)
        isBackground = true
      } catch {
        // QEMU looks whether the host's kernel and the guest's memory allow it.
        guard error.code == .unavailable, !client.isBroken else { throw error }
      }
    }
    if !isBackground { try client.set(settings.forStream) }
    if machine.parameters["max-bandwidth"] != nil {
      try client.run("migrate-set-parameters", ["max-bandwidth": Self.unlimitedBandwidth])
    }
    if let maximum = source.maximumPauseSeconds, machine.parameters["downtime-limit"] != nil {
      let milliseconds = min(Int64(maximum * 1000), Self.unlimitedDowntimeMilliseconds)
      try client.run("migrate-set-parameters", ["downtime-limit": milliseconds])
    }
    return isBackground
  }

  // MARK: The migration

  /// What the thread that receives the stream has come to.
  private final class Reception: @unchecked Sendable {
    private let monitor = Monitor(conditionCount: 0)
    /// Used under the lock only: the thread may end while it is asked.
    private var outcome: Result<QEMUStreamCapture, VMCheckpointError>?

    /// `nil` while the stream is being received.
    var result: Result<QEMUStreamCapture, VMCheckpointError>? { monitor.withLock { outcome } }

    /// Why receiving has failed, if it has.
    var failure: VMCheckpointError? {
      if case .failure(let error) = result { error } else { nil }
    }

    func finish(_ result: Result<QEMUStreamCapture, VMCheckpointError>) {
      monitor.withLock { outcome = result }
    }
  }

  private func capture(
    _ client: QMPClient,
    _ machine: QEMUVirtualMachine,
    _ pipe: QEMUStreamPipe,
    _ limit: QEMUPauseLimit?,
    isBackground: Bool
  ) throws(VMCheckpointError) -> QEMUStreamCapture {
    let name = "vmckpt-\(UniqueID.make())"
    try client.run("getfd", ["fdname": name], fileDescriptor: pipe.writingEnd)
    pipe.closeWriter()
    let reader = pipe.takeReader()
    let reception = Reception()
    // The thread has a flag of its own: it must end also when QEMU keeps the pipe and sends nothing.
    let stop = CancellationFlag()
    var readerControl = control
    readerControl.cancellation = stop
    let (directory, control) = (spoolDirectory, readerControl)
    let names = machine.ram.blocks?.map(\.name)
    let thread: WorkerThreads
    do throws(VMCheckpointError) {
      thread = try WorkerThreads(count: 1) {
        reception.finish(
          Result { () throws(VMCheckpointError) in
            try QEMUStreamCapture(
              .descriptor(reader, name: "from QEMU"),
              ramBlockNames: names,
              isBackground: isBackground,
              spoolDirectory: directory,
              control: control
            )
          }
        )
        // QEMU must not wait for a reader that is not there any more.
        close(reader)
      }
    } catch {
      close(reader)
      throw error
    }
    defer {
      stop.cancel()
      thread.join()
    }
    do throws(VMCheckpointError) {
      try client.run("migrate", ["uri": "fd:\(name)"])
      try awaitEnd(client, reception, limit, isBackground: isBackground)
    } catch {
      // The thread that failed first has the better reason.
      let cause = reception.failure ?? error
      // QEMU still has the pipe if it refused to begin. A guard that has acted reads the monitor's replies now, and
      // would wait for those that are read here.
      if (try? client.check?()) != nil {
        _ = try? client.run("closefd", ["fdname": name], ignoresCancellation: true)
      }
      guard !client.isBroken else {
        throw VMCheckpointError(
          .unavailable,
          "QEMU has ended while it sent the VM's state: \(client.name) closed the connection"
        )
      }
      throw cause
    }
    let deadline = MonotonicClock.nowSeconds + 60
    while MonotonicClock.nowSeconds < deadline {
      if let result = reception.result { return try result.get() }
      try self.control.cancellation.check()
      try limit?.check()
      usleep(1000)
    }
    // A result that comes only now is not looked at: the thread is stopped, and its result goes with it.
    throw VMCheckpointError(.unavailable, "QEMU has sent everything, but does not say so")
  }

  private func awaitEnd(
    _ client: QMPClient,
    _ reception: Reception,
    _ limit: QEMUPauseLimit?,
    isBackground: Bool
  ) throws(VMCheckpointError) {
    let start = MonotonicClock.nowSeconds
    var isForced = false
    while true {
      try control.cancellation.check()
      let migration = try client.object("query-migrate")
      if let limit {
        limit.begin(atSeconds: client.stopSeenSeconds)
        // A background snapshot lets the guest go on by itself.
        if client.resumedAtSeconds != nil { limit.end() }
        try limit.check()
      }
      switch migration["status"] as? String ?? "none" {
      case "completed": return
      case "failed", "cancelled":
        let reason = migration["error-desc"] as? String ?? "no reason given"
        throw VMCheckpointError(
          .unavailable,
          "QEMU could not send the VM's state: \(QMPClient.oneLine(reason))",
          hint: "some devices (passed-through ones, for example) cannot be migrated"
        )
      default: break
      }
      if let error = reception.failure { throw error }
      let ram = migration["ram"] as? [String: Any] ?? [:]
      let passCount = ram["dirty-sync-count"] as? Int ?? 0
      if !isForced, !isBackground,
        passCount >= Self.maximumPassCount
          || MonotonicClock.nowSeconds - start > Self.maximumLiveSeconds
      {
        if let limit, client.stopSeenSeconds == nil {
          let expected = migration["expected-downtime"] as? Double ?? 0
          try limit.check(estimate: max(expected / 1000, limit.maximumSeconds.nextUp))
        }
        try client.run(
          "migrate-set-parameters",
          ["downtime-limit": Self.unlimitedDowntimeMilliseconds]
        )
        isForced = true
      }
      // A guest that is stopped waits for the answer.
      let isStopped = client.stopSeenSeconds != nil && client.resumedAtSeconds == nil
      try client.takeEvents(patienceSeconds: isStopped ? 0.001 : 0.01)
    }
  }
}
