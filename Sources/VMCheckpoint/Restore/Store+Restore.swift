import GRDB

extension Store {
  /// Restores a snapshot's RAM, with its overlays laid over it or without.
  ///
  /// - Throws: ``VMCheckpointError``. A target file is as it was before then; of a stream, part may
  ///   be written.
  public func restore(
    _ request: RestoreRequest,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> RestoreResult {
    let start = MonotonicClock.nowSeconds
    try request.format.form.check(request.target)
    switch request.output {
    case .file(let targetPath): try requireNotStore(targetPath)
    case .stream(let fileDescriptor): try requireNotStore(fileDescriptor: fileDescriptor)
    }
    if let overlaysPath = request.overlaysOutputPath { try requireNotStore(overlaysPath) }
    try bringMissingPages(of: request.reference, control: control)
    let overlaysFile = try request.target.makeOverlaysFile()
    return try withSharedChunks(control: control) { database in
      let plan = try Self.plan(request, database)
      if request.verifiesPages { try verify(plan.snapshot, database, control) }
      if !plan.absent.isEmpty {
        control.onWarning?(
          "\(plan.absent.pageCount) pages of \(plan.snapshot.title) are absent, because the dump that it was "
            + "saved from left them out; they are restored as zeros"
        )
      }
      var states: DeviceStateFiles?
      if let directory = request.deviceStatesDirectory {
        states = try DeviceStateFiles(
          DeviceStateRow.load(of: plan.snapshot, database),
          in: directory,
          overwriting: request.overwrites
        )
      }
      let clock = StageClock<RestoreStage>()
      let patches = RAMPatch.patches(for: plan.overlays, treatment: request.overlays)
      let fileByteCount = try plan.writer.write(
        Restoration(
          target: request.target,
          control: control,
          layout: plan.layout,
          ram: StoredRAM(
            plan: plan,
            patches: patches,
            verifiesPages: request.verifiesPages,
            clock: clock,
            control: control,
            database: database
          ),
          overlays: plan.overlays,
          patches: patches,
          overlaysFile: overlaysFile
        )
      )
      try states?.commit()
      var path: String?
      if case .file(let targetPath) = request.output { path = targetPath }
      return RestoreResult(
        name: plan.snapshot.name,
        uuid: plan.snapshot.uuid,
        path: path,
        fileByteCount: fileByteCount,
        storedPageCount: plan.snapshot.storedPageCount,
        absentPageCount: plan.absent.pageCount,
        appliedOverlayCount: request.overlays == .apply
          ? plan.overlays.active.count { !$0.isLeftToVMM } : 0,
        writtenDeviceStateCount: states?.count ?? 0,
        verifiedPages: request.verifiesPages,
        durationSeconds: MonotonicClock.nowSeconds - start,
        stages: clock.times
      )
    }
  }

  /// Checks that a target is neither this store nor one of the files that belong to it, under
  /// whatever name. The target may be an existing file that is to be replaced.
  func requireNotStore(_ targetPath: String) throws(VMCheckpointError) {
    guard location.owns(targetPath) else { return }
    throw VMCheckpointError(
      .cannotCreate,
      "cannot create \(quotedName(targetPath)): it belongs to the store",
      hint: "give another path"
    )
  }

  /// Checks that a stream does not go into one of the store's files.
  private func requireNotStore(fileDescriptor: Int32) throws(VMCheckpointError) {
    guard location.owns(fileDescriptor: fileDescriptor) else { return }
    throw VMCheckpointError(
      .cannotCreate,
      "standard output is a file that belongs to the store",
      hint: "write to another file"
    )
  }

  /// Checks what a page's SHA-256 cannot show: that every page is at its PFN, and that regions and
  /// overlays are those that were saved.
  private func verify(
    _ snapshot: SnapshotRow,
    _ database: Database,
    _ control: OperationControl
  ) throws {
    var verifier = try SnapshotVerifier(database: database, chunkProblems: [:])
    let findings = try verifier.run(snapshot, cancellation: control.cancellation)
    guard let problem = findings.problems.first else { return }
    throw VMCheckpointError(
      .corrupt,
      "\(snapshot.title) is damaged: \(problem)",
      hint: "see what else is hurt with: vmckpt verify"
    )
  }

  private static func plan(
    _ request: RestoreRequest,
    _ database: Database
  ) throws -> RestorePlan {
    var plan: RestorePlan?
    try database.inTransaction(.deferred) {
      plan = try RestorePlan(request, database)
      return .commit
    }
    return plan!
  }
}
