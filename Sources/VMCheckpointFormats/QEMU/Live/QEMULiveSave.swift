import CLinux
import Glibc
import SystemPackage
import VMCheckpoint

/// Saves a VM that QEMU runs.
///
/// QEMU migrates the VM into a pipe that this process reads. Where RAM can be read in place, the
/// stream has device state only, and RAM is read while the guest is stopped. Otherwise RAM comes
/// through the pipe while the guest runs on; what it writes meanwhile comes once more. The guest is
/// stopped for the rest, and goes on as soon as all has arrived.
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

  /// Capabilities that change nothing of the stream, and stay as they are.
  private static let harmlessCapabilities: Set<String> = [
    "events", "auto-converge", "late-block-activate", "validate-uuid", "zero-blocks",
    "rdma-pin-all", "dirty-limit",
  ]

  let source: QEMULiveSource
  /// What is asked of the save beside the VM's state.
  let request: SaveRequest
  let spoolDirectory: String
  let control: OperationControl

  typealias Check = CapturedGuest.Check

  /// Captures the VM and calls `save` with what was captured.
  ///
  /// - Parameters:
  ///   - takeTurn: Is called before anything of the VM is changed.
  ///   - save: Its last parameter is to be called when all of RAM was read, before the snapshot is
  ///     made complete.
  /// - Returns: What `save` returned, and for how long the guest was stopped; `nil` when it did not
  ///   run before or does not go on.
  /// - Throws: ``VMCheckpointError``. The VM runs again if it did before, and its migration settings
  ///   are as they were, unless QEMU does not answer any more.
  func run<Result>(
    takeTurn: () throws(VMCheckpointError) -> Void,
    _ save: (QEMUStreamCapture, QEMULiveRAM, @escaping Check) throws(VMCheckpointError) -> Result
  ) throws(VMCheckpointError) -> (result: Result, pausedSeconds: Double?) {
    let startSeconds = MonotonicClock.nowSeconds
    let client = try QMPClient(path: source.socketPath, cancellation: control.cancellation)
    _ = try QEMUVirtualMachine(client)
    try takeTurn()
    // It may have changed while another save was waited for.
    let machine = try QEMUVirtualMachine(client)
    // A question that was not asked because of a cancellation must not become a warning.
    try control.cancellation.check()
    try check(machine)
    for warning in machine.ram.warnings { control.onWarning?(warning) }
    for warning in machine.commandLineWarnings { control.onWarning?(warning) }
    for warning in machine.disks?.warnings ?? [] { control.onWarning?(warning) }
    let key = machine.commandLine == nil ? nil : commandKey(machine)
    let wanted = wantedCapabilities(machine)
    let undo = QEMUUndo(
      capabilities: machine.capabilities.filter { wanted[$0.key] != nil },
      parameters: machine.parameters,
      wasRunning: machine.state == "running"
    )
    let guardProcess: QEMUGuardProcess? =
      source.guardCommand.isEmpty
      ? nil
      : try QEMUGuardProcess(
        command: source.guardCommand,
        undo: undo,
        monitor: client.descriptor
      )
    let requireIdle: Check = { () throws(VMCheckpointError) in try guardProcess?.requireIdle() }
    client.check = requireIdle
    var result: Result?
    do throws(VMCheckpointError) {
      try prepare(client, wanted, machine)
      let stopsFirst = undo.wasRunning && !machine.tracksWrites
      if stopsFirst { try client.run("stop") }
      var capture = try capture(client, machine)
      if stopsFirst, !capture.resume() {
        control.onWarning?("the restored guest will be stopped until QMP's cont")
      }
      capture.vmName = machine.name
      capture.record.qemuVersion = machine.version
      capture.record.commandLine = machine.commandLine
      capture.record.workingDirectory = machine.workingDirectory
      capture.record.disks = machine.disks?.record()
      if let key { capture.prove(with: key) }
      if capture.hasRAM {
        // Everything is here: the guest need not wait until it is stored.
        try requireIdle()
        try undo.perform(client, resumes: !source.leavesStopped)
        // A guest that runs needs no guard, and a save that is stopped now harms nobody.
        if !source.leavesStopped { guardProcess?.dismiss() }
        result = try save(capture, machine.ram, {})
        if source.leavesStopped { try requireIdle() }
      } else {
        result = try save(capture, machine.ram, requireIdle)
        try requireIdle()
        try undo.perform(client, resumes: !source.leavesStopped)
      }
      try? client.takeEvents()
    } catch {
      if guardProcess?.hasActed == true {
        try concludeStopped(client, undo, guardProcess!, isSaved: result != nil)
        return (result!, nil)
      }
      let failure = error
      do throws(VMCheckpointError) {
        try undo.perform(client, resumes: result == nil || !source.leavesStopped)
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
    return (
      result!,
      Self.pausedSeconds(client, atMost: MonotonicClock.nowSeconds - startSeconds)
    )
  }

  /// How long the guest was stopped by QEMU's clock; `nil` when QEMU does not say, or says what cannot
  /// be. Its clock may have been set meanwhile, and another program than QEMU may answer.
  private static func pausedSeconds(
    _ client: QMPClient,
    atMost maximumSeconds: Double
  ) -> Double? {
    guard let stopped = client.stoppedAtSeconds, let resumed = client.resumedAtSeconds else {
      return nil
    }
    let seconds = resumed - stopped
    return seconds <= maximumSeconds ? max(0, seconds) : nil
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

  /// The capabilities that must change: everything that makes the stream more than RAM and devices
  /// goes off, and shared RAM is left out where it can be read in place.
  private func wantedCapabilities(_ machine: QEMUVirtualMachine) -> [String: Bool] {
    var wanted: [String: Bool] = [:]
    for (name, isOn) in machine.capabilities {
      let shallBeOn =
        name == "x-ignore-shared"
        ? machine.ram.paths != nil : isOn && Self.harmlessCapabilities.contains(name)
      if shallBeOn != isOn { wanted[name] = shallBeOn }
    }
    return wanted
  }

  private func prepare(
    _ client: QMPClient,
    _ wanted: [String: Bool],
    _ machine: QEMUVirtualMachine
  ) throws(VMCheckpointError) {
    if !wanted.isEmpty {
      let list = wanted.sorted { $0.key < $1.key }.map {
        ["capability": $0.key, "state": $0.value] as [String: Any]
      }
      try client.run("migrate-set-capabilities", ["capabilities": list])
    }
    if machine.parameters["max-bandwidth"] != nil {
      try client.run("migrate-set-parameters", ["max-bandwidth": Self.unlimitedBandwidth])
    }
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
    _ machine: QEMUVirtualMachine
  ) throws(VMCheckpointError) -> QEMUStreamCapture {
    var ends: [Int32] = [-1, -1]
    guard clinux_pipe(&ends) == 0 else {
      throw VMCheckpointError(.inputOutput, "cannot make a pipe: \(systemError(errno))")
        .orOutOfResources(Errno(rawValue: errno))
    }
    let name = "vmckpt-\(UniqueID.make())"
    do throws(VMCheckpointError) {
      try client.run("getfd", ["fdname": name], fileDescriptor: ends[1])
      close(ends[1])
    } catch {
      close(ends[0])
      close(ends[1])
      throw error
    }
    let reader = ends[0]
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
      try awaitEnd(client, reception)
    } catch {
      // The thread that failed first has the better reason.
      let cause = reception.failure ?? error
      // QEMU still has the pipe if it refused to begin.
      _ = try? client.run("closefd", ["fdname": name], ignoresCancellation: true)
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
      usleep(1000)
    }
    // A result that comes only now is not looked at: the thread is stopped, and its result goes with it.
    throw VMCheckpointError(.unavailable, "QEMU has sent everything, but does not say so")
  }

  private func awaitEnd(_ client: QMPClient, _ reception: Reception) throws(VMCheckpointError) {
    let start = MonotonicClock.nowSeconds
    var isForced = false
    while true {
      try control.cancellation.check()
      let migration = try client.object("query-migrate")
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
      if !isForced,
        passCount >= Self.maximumPassCount
          || MonotonicClock.nowSeconds - start > Self.maximumLiveSeconds
      {
        try client.run(
          "migrate-set-parameters",
          ["downtime-limit": Self.unlimitedDowntimeMilliseconds]
        )
        isForced = true
      }
      try client.takeEvents()
    }
  }

  private func systemError(_ code: Int32) -> String { String(cString: strerror(code)) }
}
