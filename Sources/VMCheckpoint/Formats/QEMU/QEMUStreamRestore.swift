import GRDB

/// Restores a snapshot as a migration stream: what is kept of it, with RAM's pages put back in.
struct QEMUStreamRestore {
  private let request: RestoreRequest
  private let plan: RestorePlan
  private let clock: StageClock<RestoreStage>
  private let control: OperationControl

  init(
    _ request: RestoreRequest,
    plan: RestorePlan,
    clock: StageClock<RestoreStage>,
    control: OperationControl
  ) {
    self.request = request
    self.plan = plan
    self.clock = clock
    self.control = control
  }

  /// Writes the stream to `fileDescriptor`.
  ///
  /// - Returns: Its length in bytes.
  /// - Throws: ``VMCheckpointError`` or `DatabaseError`; part of the stream may be written then,
  ///   without the end that QEMU waits for.
  func run(
    _ database: Database,
    patches: [RAMPatch],
    to fileDescriptor: Int32
  ) throws -> UInt64 {
    let state = try QEMUStoredState(plan.snapshot, layout: plan.layout, database)
    let writer = QEMUStreamWriter(
      StreamWriter(fileDescriptor: fileDescriptor, cancellation: control.cancellation),
      record: state.record
    )
    let split = state.record.ramOffset
    var start = [QEMUStreamFormat.Section.part]
    start.appendBigEndian(state.sectionID)
    var end: [UInt8] = []
    end.appendBigEndian(QEMUStreamFormat.RAMFlag.endOfSection)
    end.append(QEMUStreamFormat.Section.footer)
    end.appendBigEndian(state.sectionID)
    try writer.append(state.stream[..<split])
    try writer.append(start[...])
    try StreamRestore(
      plan: plan,
      sink: writer,
      verifiesPages: request.verifiesPages,
      clock: clock,
      control: control
    ).run(database, patches: patches)
    try writer.endOfRAM()
    try writer.append(end[...])
    try writer.append(state.stream[split...])
    return writer.byteCount
  }
}
