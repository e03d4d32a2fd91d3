import GRDB
import Glibc
import SystemPackage

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
    try request.checkFormat()
    if case .file(let targetPath) = request.output { try requireNotStore(targetPath) }
    if let overlaysPath = request.overlaysOutputPath { try requireNotStore(overlaysPath) }
    let overlaysFile = try Self.overlaysFile(request)
    return try withSharedChunks(control: control) { database in
      let plan = try Self.plan(request, database)
      let fileByteCount: UInt64
      if request.verifiesPages { try verify(plan.snapshot, database, control) }
      let patches = RAMPatch.patches(for: plan.overlays, treatment: request.overlays)
      let clock = StageClock<RestoreStage>()
      var path: String?
      switch (request.format, request.output) {
      case (.raw, .file(let targetPath)), (.propolis, .file(let targetPath)):
        let output = try OutputFile(path: targetPath, overwriting: request.overwrites)
        try FileRestore(
          plan: plan,
          outputs: [output],
          verifiesPages: request.verifiesPages,
          clock: clock,
          control: control
        ).run(database, patches: patches)
        path = try finish(output, targetPath, overlaysFile, plan, clock, control)
        fileByteCount = plan.form.byteCount
      case (.raw, .stream(let fileDescriptor)), (.propolis, .stream(let fileDescriptor)):
        try StreamRestore(
          plan: plan,
          sink: StreamWriter(
            fileDescriptor: fileDescriptor,
            cancellation: control.cancellation
          ),
          verifiesPages: request.verifiesPages,
          clock: clock,
          control: control
        ).run(database, patches: patches)
        try overlaysFile?.write(plan.overlaysJSON)
        try overlaysFile?.commit()
        fileByteCount = plan.form.byteCount
      case (.qemu, _):
        let restore = try QEMUDirectoryRestore(request, plan: plan, clock: clock, control: control)
        try restore.run(database, patches: patches) {
          try overlaysFile?.write(plan.overlaysJSON)
          try control.cancellation.check()
        }
        try overlaysFile?.commit()
        if case .file(let targetPath) = request.output { path = targetPath }
        fileByteCount = plan.layout.fileByteCount
      case (.qemuStream, .file(let targetPath)):
        let output = try OutputFile(path: targetPath, overwriting: request.overwrites)
        fileByteCount = try QEMUStreamRestore(request, plan: plan, clock: clock, control: control)
          .run(database, patches: patches, to: output.descriptor.rawValue)
        path = try finish(output, targetPath, overlaysFile, plan, clock, control)
      case (.qemuStream, .stream(let fileDescriptor)):
        fileByteCount = try QEMUStreamRestore(request, plan: plan, clock: clock, control: control)
          .run(database, patches: patches, to: fileDescriptor)
        try overlaysFile?.write(plan.overlaysJSON)
        try overlaysFile?.commit()
      }
      return RestoreResult(
        name: plan.snapshot.name,
        uuid: plan.snapshot.uuid,
        path: path,
        fileByteCount: fileByteCount,
        storedPageCount: plan.snapshot.storedPageCount,
        appliedOverlayCount: request.overlays == .apply ? plan.overlays.active.count : 0,
        verifiedPages: request.verifiesPages,
        durationSeconds: MonotonicClock.nowSeconds - start,
        stages: clock.times
      )
    }
  }

  /// Puts the written files in their places, both or none.
  ///
  /// - Returns: `targetPath`.
  private func finish(
    _ output: OutputFile,
    _ targetPath: String,
    _ overlaysFile: OutputFile?,
    _ plan: RestorePlan,
    _ clock: StageClock<RestoreStage>,
    _ control: OperationControl
  ) throws -> String {
    try overlaysFile?.write(plan.overlaysJSON)
    try control.cancellation.check()
    try clock.measure(.sync, byteCount: Int(plan.snapshot.storedPageCount) * Page.byteCount) {
      try output.commit()
    }
    do {
      try overlaysFile?.commit()
    } catch {
      output.withdraw()
      throw error
    }
    return targetPath
  }

  /// Checks that a target, which may be an existing file that is to be replaced, is neither this
  /// store nor one of the files that belong to it, under whatever name.
  func requireNotStore(_ targetPath: String) throws(VMCheckpointError) {
    guard location.owns(targetPath) else { return }
    throw VMCheckpointError(
      .cannotCreate,
      "cannot create \(quotedName(targetPath)): it belongs to the store",
      hint: "give another path"
    )
  }

  /// Checks what a page's SHA-256 cannot tell: that every page is at its PFN, and that regions and
  /// overlays are those that were saved.
  private func verify(
    _ snapshot: SnapshotRow,
    _ database: Database,
    _ control: OperationControl
  ) throws {
    let findings = try SnapshotVerifier(database: database, chunkProblems: [:])
      .run(snapshot, cancellation: control.cancellation)
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

  private static func overlaysFile(
    _ request: RestoreRequest
  ) throws(VMCheckpointError) -> OutputFile? {
    guard let path = request.overlaysOutputPath else { return nil }
    if case .file(let ramPath) = request.output, try ResolvedPath.areSame(ramPath, path) {
      throw VMCheckpointError(
        .invalidArgument,
        "RAM and overlays.json cannot both go to \(quotedName(path))"
      )
    }
    return try OutputFile(path: path, overwriting: request.overwrites)
  }
}
