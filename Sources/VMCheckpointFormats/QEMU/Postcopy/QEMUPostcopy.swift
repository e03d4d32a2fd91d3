import CLinux
import Glibc
import SystemPackage
public import VMCheckpoint

/// The source of postcopy migrations: a snapshot runs in any QEMU at once, and its RAM follows.
///
/// What it promises, and how, is the DocC article "Serving pages".
public enum QEMUPostcopy {
  static let door = "postcopy"
  /// The environment variable in which a server of ``QEMUResume`` finds QEMU's process.
  public static let processVariable = "VMCKPT_QEMU_PROCESS"
  /// The environment variable with the file of what QEMU has said to ``QEMUResume``, whose server is to go on for another.
  public static let recoveryVariable = "VMCKPT_QEMU_RECOVERY"
  /// The environment variable with a descriptor of ``QEMUResume``'s: a byte comes once QEMU may get the guest.
  public static let startVariable = "VMCKPT_QEMU_START"
  /// The environment variable with a descriptor that warnings are written to while the guest runs.
  public static let noticeVariable = "VMCKPT_QEMU_NOTICES"
  /// QEMU may be about to begin to listen.
  private static let connectSeconds = 10.0

  /// Serves a snapshot to one QEMU until that has all pages. A signal that cancels `control` ends it before the guest
  /// runs; after that the guest gets its pages first.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidArgument` when the snapshot is not of a QEMU guest, or QEMU's command
  ///   line does not go with it; `unavailable` when QEMU, or its host, refuses, or is gone; `corrupt` when pages are
  ///   damaged; `invalidData` for what QEMU cannot have sent; `locked`.
  public static func serve(
    _ request: QEMUPostcopyRequest,
    storePath: String,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> QEMUPostcopyResult {
    var hasBegun = false
    do throws(VMCheckpointError) {
      return try serve(request, storePath: storePath, control: control, hasBegun: &hasBegun)
    } catch {
      if !hasBegun, !request.isRecovery { refuse(request.place) }
      throw error
    }
  }

  /// Lets QEMU end: 10.0 waits for ever where a program that it has started sends nothing.
  private static func refuse(_ place: QEMUPostcopyRequest.Place) {
    guard case .pipes(let input, let output) = place,
      let channel = try? QEMUPostcopyChannel(input: input, output: output)
    else { return }
    channel.append { $0 += [UInt8](repeating: 0, count: 8) }
    try? channel.send()
  }

  private static func serve(
    _ request: QEMUPostcopyRequest,
    storePath: String,
    control: OperationControl,
    hasBegun: inout Bool
  ) throws(VMCheckpointError) -> QEMUPostcopyResult {
    let start = MonotonicClock.nowSeconds

    // 1. What the snapshot is, and whether QEMU can take it in this way.
    let store = try Store.open(at: storePath, cancellation: control.cancellation)
    let (plan, restore) = try store.planStream(
      request.reference,
      overlays: request.overlays,
      tscFrequencyHz: request.tscFrequencyHz,
      cpuVendor: request.cpuVendor
    )
    let stream = try QEMUPostcopyStream(restore.state, of: plan.title)
    // To read the devices' description takes as long as to read all extents, and both go on together.
    let (state, ramOffset) = (restore.state.stream, restore.state.record.ramOffset)
    let isRecovery = request.isRecovery
    let runState = ConcurrentValue {
      isRecovery ? nil : QEMURunState.runs(state, ramOffset: ramOffset)
    }

    // 2. Where its pages are. A server that waits for QEMU has that done then, and reads no page yet.
    let server = try PageServer(
      storePath: storePath,
      reference: try SnapshotReference(plan.uuid),
      overlays: request.overlays,
      tscFrequencyHz: request.tscFrequencyHz,
      cpuVendor: request.cpuVendor,
      control: control,
      leavesToVMM: restore.leavesToVMM
    )
    // Without a thread to spare, memory comes as it is used.
    let populating = try? WorkerThreads(count: 1) { server.populate() }
    defer { populating?.join() }
    let bell = try Doorbell()
    server.reader.listen(bell)
    let workingSets = WorkingSetUse(
      store,
      snapshot: plan.uuid,
      door: door,
      recordingSeconds: request.recordingSeconds,
      isSuccessor: isRecovery,
      control: control
    )
    let pages = try PostcopyPages(server, blockByteCounts: stream.blocks.map(\.byteCount))

    // 3. QEMU, and what its command line shows.
    var recovered: QEMURecoveredPages?
    if let path = request.recoveredPath {
      recovered = try QEMURecoveredPages(path: path, blocks: stream.blocks)
    }
    let runs = runState.value
    let (channel, target) = try connect(request, plan, store, control)
    if !isRecovery {
      try target.check(runs: runs, of: plan.title)
      if runs == false, target.arguments.isEmpty {
        control.onWarning?(
          "\(plan.title) was saved while its guest was stopped; QEMU lets it run unless it was "
            + "started with -S"
        )
      }
      warn(server, restore, plan, request.overlays, control)
    }
    var protection: ServeProtection?
    var mayNeedPages = isRecovery
    defer {
      // A lease that is not given back goes on to protect: QEMU may wait for another server.
      if !mayNeedPages || target.hasEnded { protection?.release() }
    }
    /// Something keeps the snapshot's chunks before any of them is read.
    func protect() throws(VMCheckpointError) {
      protection = try ServeProtection(
        store,
        snapshot: plan.uuid,
        door: door,
        target: target.leaseTarget,
        control: control
      )
      if request.prefetches {
        server.reader.bringAhead(workingSets.played?.runs ?? [], all: true)
      }
    }
    let session = try QEMUPostcopySession(
      channel,
      stream: stream,
      pages: pages,
      workingSets: workingSets,
      prefetches: request.prefetches,
      bell: bell,
      control: control
    ) { seconds in
      request.onRun?(
        QEMUPostcopyReady(
          name: server.reader.name,
          process: target.process,
          leaseID: protection?.lease?.id,
          seconds: seconds
        )
      )
    }

    // 4. Pages come from remotes while QEMU starts; one that waits already gets ready for them while the lease is taken.
    if let start = request.startDescriptor {
      try protect()
      try waitForStart(start, control)
    }
    hasBegun = true
    if !isRecovery { try session.open() }
    if protection == nil { try protect() }

    // 5. The guest, and its pages.
    do throws(VMCheckpointError) {
      if isRecovery { try session.recover(recovered) } else { try session.start() }
    } catch {
      mayNeedPages = session.mayNeedPages
      throw error
    }
    mayNeedPages = false
    let hasRecorded = workingSets.finish()
    server.reader.endBringing()
    let counts = session.counts
    let served = server.counts
    return QEMUPostcopyResult(
      name: server.reader.name,
      uuid: plan.uuid,
      process: target.process,
      leaseID: protection?.lease?.id,
      isRecovery: isRecovery,
      secondsToRun: counts.secondsToRun,
      secondsToSent: counts.secondsToSent,
      requestCount: counts.requestCount,
      requestPageCount: counts.requestPageCount,
      zeroPageCount: counts.zeroPageCount,
      workingSetPageCount: counts.workingSetPageCount,
      backgroundPageCount: counts.backgroundPageCount,
      playedWorkingSet: workingSets.played?.summary,
      hasRecordedWorkingSet: hasRecorded,
      decodedChunkCount: served.decodedChunkCount,
      remoteChunkCount: served.remoteChunkCount,
      remoteByteCount: served.remoteByteCount,
      remoteWaitCount: served.remoteWaitCount,
      remoteWaitSeconds: served.remoteWaitSeconds,
      requestSecondsP50: counts.times.percentile(0.5).map { Double($0) / 1e9 },
      requestSecondsP99: counts.times.percentile(0.99).map { Double($0) / 1e9 },
      durationSeconds: MonotonicClock.nowSeconds - start
    )
  }

  /// Waits until whoever has started QEMU says that it may get the guest.
  private static func waitForStart(
    _ descriptor: Int32,
    _ control: OperationControl
  ) throws(VMCheckpointError) {
    var byte: UInt8 = 0
    while true {
      try control.cancellation.check()
      var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      guard poll(&request, 1, 100) > 0 else { continue }
      let count = read(descriptor, &byte, 1)
      if count == 1 { return }
      guard count < 0, errno == EINTR || errno == EAGAIN else {
        throw VMCheckpointError(.unavailable, "QEMU ended before its guest was sent")
      }
    }
  }

  private static func warn(
    _ server: PageServer,
    _ restore: QEMUStreamRestore,
    _ plan: RestorePlan,
    _ treatment: OverlayTreatment,
    _ control: OperationControl
  ) {
    for warning in restore.hyperV.disagreements(with: plan, treatment) {
      control.onWarning?(warning)
    }
    guard !server.reader.absent.isEmpty else { return }
    control.onWarning?(
      "\(server.reader.absent.pageCount) pages of \(plan.title) are absent, because the dump that it was "
        + "saved from left them out; they are served as zeros"
    )
  }

  // MARK: Connections

  private static func connect(
    _ request: QEMUPostcopyRequest,
    _ plan: RestorePlan,
    _ store: Store,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> (QEMUPostcopyChannel, QEMUPostcopyTarget) {
    switch request.place {
    case .pipes(let input, let output):
      let target = request.process.map { QEMUPostcopyTarget(process: $0) } ?? .parent()
      return (try QEMUPostcopyChannel(input: input, output: output), target)
    case .socket(let path):
      let channel = QEMUPostcopyChannel(socket: try connect(path, control))
      return (channel, QEMUPostcopyTarget(process: channel.peerProcess))
    case .recovery(let path):
      let monitor = try QMPClient(
        path: path,
        outOfBand: true,
        cancellation: control.cancellation
      )
      let directory = try PrivateDirectory(in: "/tmp")
      defer { directory.remove(control) }
      let recovery = QEMUPostcopyRecovery(monitor, control)
      let target = QEMUPostcopyTarget(process: monitor.peerProcess)
      do throws(VMCheckpointError) {
        let socket = try recovery.connect(by: directory.file("recover"))
        return (QEMUPostcopyChannel(socket: socket), target)
      } catch {
        // The server was killed between its last page and its own end.
        guard recovery.state == "completed",
          QEMUPostcopyRecovery.dropLostLeases(in: store, target: target, ofSnapshot: plan.name)
        else { throw error }
        throw VMCheckpointError(
          .unavailable,
          "\(monitor.name): the guest has all of its pages, and waits for none; the lease of its server, "
            + "which was killed, is removed",
          hint: "nothing is left to be done: the guest runs without a server"
        )
      }
    }
  }

  /// Connects to a socket on which QEMU listens, or is about to.
  private static func connect(
    _ path: String,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> Int32 {
    let deadline = MonotonicClock.nowSeconds + connectSeconds
    while true {
      do throws(VMCheckpointError) {
        return try QMPClient.connect(path, name: "QEMU's socket \(quotedName(path))")
      } catch {
        guard [.notFound, .unavailable].contains(error.code), MonotonicClock.nowSeconds < deadline
        else {
          throw VMCheckpointError(
            error.code,
            error.message,
            hint: "start QEMU with -incoming unix:PATH"
          )
        }
      }
      try control.cancellation.check()
      usleep(1000)
    }
  }
}
