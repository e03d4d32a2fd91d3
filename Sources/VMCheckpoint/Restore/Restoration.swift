import SystemPackage

/// Sees stored pages on their way into a file: consecutive pages of the guest, and the first one's PFN.
/// Called by several threads, in any order, before overlays are laid over RAM.
package typealias PageObserver = @Sendable (_ firstPFN: UInt64, UnsafeRawBufferPointer) -> Void

/// A restore or a conversion that is going on, as a form's writer sees it.
package struct Restoration {
  package let target: RestoreTarget
  package let control: OperationControl
  /// Where RAM lies in guest-physical addresses.
  package let layout: RAMLayout
  let ram: any RestorableRAM
  /// Retargeted as is asked for.
  let overlays: StoredOverlays
  let patches: [RAMPatch]
  /// Gets the overlays.json that describes the restored RAM, if it is asked for.
  let overlaysFile: OutputFile?

  /// The active overlays whose bytes are written over RAM.
  package var writtenOverlays: [Overlay] {
    let pfns = Set(patches.map(\.pfn))
    return overlays.active.map(\.overlay).filter { pfns.contains($0.pfn) }
  }

  /// The active overlays that written RAM does not show, and which the VMM does not lay over it either.
  package var omittedOverlays: [Overlay] {
    guard target.overlays == .omit else { return [] }
    return overlays.active.filter { !$0.isBaked && !$0.isLeftToVMM }.map(\.overlay)
  }

  /// Writes a form that has RAM in it, to the target's file or stream, and puts it in its place.
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
    switch target.output {
    case .file(let path):
      let output = try OutputFile(path: path, overwriting: target.overwrites)
      try writeRAM(form, to: [output], observer: observer)
      try complete?(output)
      try finish(output)
    case .stream(let fileDescriptor):
      let sink = StreamWriter(
        fileDescriptor: fileDescriptor,
        cancellation: control.cancellation
      )
      try writeRAM(form, inOrderTo: sink)
      try completeContents()
      try overlaysFile?.commit()
    }
  }

  /// Calls `body` with a descriptor to write to from its beginning to its end. It is that of the
  /// target's file, which is then put in its place, or of its stream.
  package func writeInOrder(_ body: (Int32) throws -> UInt64) throws -> UInt64 {
    switch target.output {
    case .file(let path):
      let output = try OutputFile(path: path, overwriting: target.overwrites)
      let byteCount = try body(output.descriptor.rawValue)
      try finish(output)
      return byteCount
    case .stream(let fileDescriptor):
      let byteCount = try body(fileDescriptor)
      try completeContents()
      try overlaysFile?.commit()
      return byteCount
    }
  }

  /// Writes the target's directory by `body`, whose argument is to be called when all is written but
  /// nothing has its name.
  package func writeDirectory(_ body: (_ beforeCommit: () throws -> Void) throws -> Void) throws {
    try body {
      try completeContents()
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
    try ram.write(form, to: outputs, observer: observer)
  }

  /// Writes RAM, and what else `form` has, from its beginning to its end; flat RAM without a form.
  ///
  /// - Parameter isLastPass: Whether RAM is not written once more. RAM that can only be read once is put down
  ///   for that.
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; part may be written then.
  package func writeRAM(
    _ form: RestoredForm? = nil,
    inOrderTo sink: any FlatRAMSink,
    isLastPass: Bool = true
  ) throws {
    try ram.write(form ?? RestoredForm(flat: layout), inOrderTo: sink, isLastPass: isLastPass)
  }

  /// Writes what belongs to RAM, and checks that it counts.
  private func completeContents() throws {
    if let overlaysFile { try overlaysFile.write(ram.overlaysJSON()) }
    try ram.checkBeforeCompletion()
  }

  /// Puts the written files in their places, both or none.
  private func finish(_ output: OutputFile) throws {
    try completeContents()
    try control.cancellation.check()
    try ram.commit(output)
    do {
      try overlaysFile?.commit()
    } catch {
      output.withdraw()
      throw error
    }
  }
}
