import GRDB
import SystemPackage

/// Sees stored pages on their way into a file: consecutive pages of the guest, and the first one's PFN.
/// Called by several threads, in any order, before overlays are laid over RAM.
package typealias PageObserver = @Sendable (_ firstPFN: UInt64, UnsafeRawBufferPointer) -> Void

/// A restore that is going on, as a form's writer sees it.
package struct Restoration {
  package let request: RestoreRequest
  package let control: OperationControl
  let plan: RestorePlan
  let patches: [RAMPatch]
  let clock: StageClock<RestoreStage>
  let database: Database
  /// Gets the overlays.json that describes the restored RAM, if it is asked for.
  let overlaysFile: OutputFile?

  /// The active overlays whose bytes the restore writes over RAM.
  package var writtenOverlays: [Overlay] {
    let pfns = Set(patches.map(\.pfn))
    return plan.overlays.active.map(\.overlay).filter { pfns.contains($0.pfn) }
  }

  /// The active overlays that restored RAM does not show, and which the VMM does not lay over it either.
  package var omittedOverlays: [Overlay] {
    guard request.overlays == .omit else { return [] }
    return plan.overlays.active.filter { !$0.isBaked && !$0.isLeftToVMM }.map(\.overlay)
  }

  /// Where RAM lies in guest-physical addresses.
  package var layout: RAMLayout { plan.layout }

  /// Writes a form that has RAM in it, to the request's file or stream, and puts it in its place.
  ///
  /// - Parameters:
  ///   - observer: Sees the pages that go to a file; a stream's are not shown.
  ///   - complete: Writes what of a file could not be known before its RAM was written. The file does not
  ///     have its name then.
  package func write(
    _ form: RestoredForm,
    observer: PageObserver? = nil,
    complete: ((OutputFile) throws -> Void)? = nil
  ) throws {
    switch request.output {
    case .file(let path):
      let output = try OutputFile(path: path, overwriting: request.overwrites)
      try writeRAM(form, to: [output], observer: observer)
      try complete?(output)
      try finish(output)
    case .stream(let fileDescriptor):
      let sink = StreamWriter(
        fileDescriptor: fileDescriptor,
        cancellation: control.cancellation
      )
      try writeRAM(form, inOrderTo: sink)
      try writeOverlays()
      try overlaysFile?.commit()
    }
  }

  /// Calls `body` with a descriptor to write to from its beginning to its end. It is that of the
  /// request's file, which is then put in its place, or of its stream.
  package func writeInOrder(_ body: (Int32) throws -> UInt64) throws -> UInt64 {
    switch request.output {
    case .file(let path):
      let output = try OutputFile(path: path, overwriting: request.overwrites)
      let byteCount = try body(output.descriptor.rawValue)
      try finish(output)
      return byteCount
    case .stream(let fileDescriptor):
      let byteCount = try body(fileDescriptor)
      try writeOverlays()
      try overlaysFile?.commit()
      return byteCount
    }
  }

  /// Writes the request's directory by `body`, whose argument is to be called when all is written but
  /// nothing has its name.
  package func writeDirectory(_ body: (_ beforeCommit: () throws -> Void) throws -> Void) throws {
    try body {
      try writeOverlays()
      try control.cancellation.check()
    }
    try overlaysFile?.commit()
  }

  /// Writes RAM into files, an output for each file of `form`, in any order.
  ///
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; the outputs hold anything then.
  package func writeRAM(
    _ form: RestoredForm,
    to outputs: [OutputFile],
    observer: PageObserver? = nil
  ) throws {
    try FileRestore(
      plan: plan,
      form: form,
      outputs: outputs,
      verifiesPages: request.verifiesPages,
      clock: clock,
      control: control,
      observer: observer
    ).run(database, patches: patches)
  }

  /// Writes RAM, and what else `form` has, from its beginning to its end; flat RAM without a form.
  ///
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; part may be written then.
  package func writeRAM(_ form: RestoredForm? = nil, inOrderTo sink: any FlatRAMSink) throws {
    try StreamRestore(
      plan: plan,
      form: form ?? RestoredForm(flat: layout),
      sink: sink,
      verifiesPages: request.verifiesPages,
      clock: clock,
      control: control
    ).run(database, patches: patches)
  }

  private func writeOverlays() throws {
    try overlaysFile?.write(plan.overlaysJSON)
  }

  /// Puts the written files in their places, both or none.
  private func finish(_ output: OutputFile) throws {
    try writeOverlays()
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
  }
}
