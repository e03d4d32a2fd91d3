import Glibc
import SystemPackage

extension PageServer {
  private static let door = "userfaultfd"

  /// Serves a snapshot to VMs that connect to a socket and hand over a userfaultfd, as Firecracker does, until the
  /// control is cancelled: then no more VMs are taken, and those that are there get all of their pages first.
  ///
  /// - Throws: ``VMCheckpointError``: as ``SnapshotReader/init(storePath:reference:overlays:tscFrequencyHz:cpuVendor:cache:)``;
  ///   `cannotCreate` or `permissionDenied` for the socket; `locked`.
  public static func serve(
    _ request: ServeRequest,
    storePath: String,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> ServeResult {
    let start = MonotonicClock.nowSeconds
    let keeper = KeeperLink(request.keeperCommand) { control.onWarning?($0) }
    var legacy: KeeperLink.Legacy?
    if let descriptor = request.keeperDescriptor { legacy = try keeper.adopt(descriptor) }

    // 1. Something keeps the snapshot's chunks before any of them is read.
    let store = try Store.open(at: storePath, cancellation: control.cancellation)
    var reference = request.reference
    if let legacy { reference = try SnapshotReference(legacy.snapshot) }
    let uuid = try store.read { try SnapshotCatalog.resolve(reference, in: $0).uuid }
    let protection = try ServeProtection(
      store,
      snapshot: uuid,
      door: door,
      target: try ResolvedPath.of(request.socketPath),
      inherited: legacy?.lease,
      isSuccessor: legacy != nil,
      control: control
    )
    var isDone = false
    defer { if !isDone, legacy == nil { protection.release() } }

    // 2. All extents, proved.
    let server = try PageServer(
      storePath: storePath,
      reference: try SnapshotReference(uuid),
      overlays: request.overlays,
      tscFrequencyHz: request.tscFrequencyHz,
      cpuVendor: request.cpuVendor,
      control: control,
      leavesToVMM: { _ in false }
    )

    server.populate()
    if !server.reader.absent.isEmpty, legacy == nil {
      control.onWarning?(
        "\(server.reader.absent.pageCount) pages of snapshot \(quotedName(server.reader.name)) are absent, "
          + "because the dump that it was saved from left them out; they are served as zeros"
      )
    }

    let workingSets = WorkingSetUse(
      store,
      snapshot: uuid,
      door: door,
      recordingSeconds: request.recordingSeconds,
      isSuccessor: legacy != nil,
      control: control
    )

    // Pages come while the VMM starts.
    if request.prefetches {
      server.reader.bringAhead(workingSets.played?.runs ?? [], all: true)
    }

    // 3. The socket, and a keeper that has all of this.
    let listener: Int32
    if let legacy {
      listener = legacy.listener
    } else {
      listener = try UserfaultSocket.listen(at: request.socketPath)
      keeper.send(KeeperMessage(.snapshot, text: uuid))
      keeper.send(KeeperMessage(.listener), listener)
      if let lease = protection.lease {
        keeper.send(
          KeeperMessage(.lease, number: UInt64(lease.id)),
          lease.descriptor.rawValue
        )
      }
      do throws(VMCheckpointError) {
        try keeper.start()
      } catch {
        unlink(request.socketPath)
        throw error
      }
    }
    let socket = UserfaultSocket.Identity(path: request.socketPath)
    let service = try UserfaultService(
      request,
      server: server,
      workingSets: workingSets,
      listener: listener,
      keeper: keeper,
      control: control
    )

    // 4. VMs, until the end; then nobody finds the socket, and the snapshot is free again.
    if let legacy { service.takeOver(legacy.vms) }
    request.onReady?(
      ServeReady(
        name: server.reader.name,
        socketPath: request.socketPath,
        leaseID: protection.lease?.id,
        takenOverCount: legacy?.vms.count ?? 0
      )
    )
    service.run()
    let hasRecorded = workingSets.finish()
    server.reader.endBringing()
    UserfaultSocket.remove(request.socketPath, if: socket)
    close(listener)
    isDone = true
    protection.release()
    keeper.dismiss()
    return ServeResult(
      name: server.reader.name,
      uuid: uuid,
      socketPath: request.socketPath,
      leaseID: protection.lease?.id,
      vmCount: service.vmCount,
      completeVMCount: service.completeVMCount,
      counts: server.counts,
      playedWorkingSet: workingSets.played?.summary,
      hasRecordedWorkingSet: hasRecorded,
      durationSeconds: MonotonicClock.nowSeconds - start
    )
  }
}
