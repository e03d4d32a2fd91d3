import GRDB

/// The RAM of a stored snapshot on its way into a form.
struct StoredRAM: RestorableRAM {
  let plan: RestorePlan
  let patches: [RAMPatch]
  let verifiesPages: Bool
  let clock: StageClock<RestoreStage>
  let control: OperationControl
  let database: Database

  func write(
    _ form: RestoredForm,
    to outputs: [OutputFile],
    observer: PageObserver?
  ) throws {
    try FileRestore(
      plan: plan,
      form: form,
      outputs: outputs,
      verifiesPages: verifiesPages,
      clock: clock,
      control: control,
      observer: observer
    ).run(database, patches: patches)
  }

  func write(
    _ form: RestoredForm,
    inOrderTo sink: any FlatRAMSink,
    isLastPass: Bool
  ) throws {
    try StreamRestore(
      plan: plan,
      form: form,
      sink: sink,
      verifiesPages: verifiesPages,
      clock: clock,
      control: control
    ).run(database, patches: patches)
  }

  func commit(_ output: OutputFile) throws {
    try clock.measure(.sync, byteCount: Int(plan.snapshot.storedPageCount) * Page.byteCount) {
      try output.commit()
    }
  }

  func overlaysJSON() -> String { plan.overlaysJSON }

  func checkBeforeCompletion() {}
}
