import VMCheckpoint

/// Restores a snapshot as a migration stream: what is kept of it, with RAM's pages put back in.
///
/// A stream that ends with an error lacks the end that QEMU waits for.
struct QEMUStreamRestore: RestorationWriter {
  let state: QEMUStoredState
  let hyperV: QEMUHyperVState
  /// What comes before the stream.
  let head: [UInt8]

  init(_ state: QEMUStoredState, head: [UInt8] = []) {
    self.state = state
    self.head = head
    hyperV = QEMUHyperVState(state.stream, ramOffset: state.record.ramOffset)
  }

  func leavesToVMM(_ overlay: Overlay) -> Bool { hyperV.covers(overlay) }

  func write(_ restore: Restoration) throws -> UInt64 {
    hyperV.warn(of: restore)
    return try restore.writeInOrder { fileDescriptor in
      let writer = QEMUStreamWriter(
        StreamWriter(fileDescriptor: fileDescriptor, cancellation: restore.control.cancellation),
        record: state.record
      )
      let split = state.record.ramOffset
      var start = [QEMUStreamFormat.Section.part]
      start.appendBigEndian(state.sectionID)
      var end: [UInt8] = []
      end.appendBigEndian(QEMUStreamFormat.RAMFlag.endOfSection)
      end.append(QEMUStreamFormat.Section.footer)
      end.appendBigEndian(state.sectionID)
      try writer.append(head[...])
      try writer.append(state.stream[..<split])
      try writer.append(start[...])
      try restore.writeRAM(inOrderTo: writer)
      try writer.endOfRAM()
      try writer.append(end[...])
      try writer.append(state.stream[split...])
      return writer.byteCount
    }
  }
}

extension Store {
  /// What a migration stream of a snapshot is made of, for who gives RAM's pages away in another way.
  ///
  /// - Parameters:
  ///   - overlays: As for a restore.
  ///   - tscFrequencyHz: As for a restore.
  ///   - cpuVendor: As for a restore.
  /// - Throws: ``VMCheckpointError``: `notFound`, `corrupt`; `invalidArgument` when the snapshot is of no QEMU guest.
  func planStream(
    _ reference: SnapshotReference,
    overlays: OverlayTreatment,
    tscFrequencyHz: UInt64?,
    cpuVendor: CPUVendor?
  ) throws(VMCheckpointError) -> (plan: RestorePlan, restore: QEMUStreamRestore) {
    let plan = try plan(
      RestoreRequest(
        reference: reference,
        output: .stream(fileDescriptor: -1),
        format: .qemuStream,
        overlays: overlays,
        tscFrequencyHz: tscFrequencyHz,
        cpuVendor: cpuVendor
      )
    )
    guard let restore = plan.writer as? QEMUStreamRestore else {
      throw VMCheckpointError(.invalidArgument, "\(plan.title) has no device state of QEMU")
    }
    return (plan, restore)
  }
}
