/// A save's turn at a store, which may be taken before there is anything to save. So a VM that is
/// stopped to be saved need not wait for another save to end, or for a store to be made.
///
/// The turn ends when the object goes away.
final class SaveTurn: CaptureDestination {
  private let path: String
  private let request: SaveRequest
  private let control: OperationControl
  private var store: Store?
  private var newStore: NewStore?
  private var writerLock: StoreLock?
  private var candidates: CandidatePages?

  /// A turn at the store at `path`, which need not be there. Does nothing yet.
  init(storePath path: String, for request: SaveRequest, control: OperationControl) {
    self.path = path
    self.request = request
    self.control = control
  }

  /// A turn at a store that is open.
  convenience init(at store: Store, for request: SaveRequest, control: OperationControl) {
    self.init(storePath: store.path, for: request, control: control)
    self.store = store
  }

  deinit {
    guard newStore != nil else { return }
    // A lock file without a store guards nothing. A save that waits for it looks whether it is still
    // there.
    let lock = writerLock ?? Self.lockIfFree(path)
    guard let lock, (try? lock.requireInPlace()) != nil else { return }
    lock.removeFile()
  }

  private static func lockIfFree(_ path: String) -> StoreLock? {
    guard let location = try? StoreLocation(path) else { return nil }
    return try? StoreLock.acquire(
      .writer,
      .exclusive,
      at: location,
      timeoutSeconds: 0,
      cancellation: CancellationFlag()
    )
  }

  var storePath: String? { path }

  func spoolDirectory() throws(VMCheckpointError) -> String { try StoreLocation(path).directory }

  /// Opens the store, or makes one that has no name yet. Waits for other saves to end, and does and
  /// checks all of a save that needs no source.
  ///
  /// - Throws: ``VMCheckpointError`` as ``Store/save(_:control:)``.
  func prepare() throws(VMCheckpointError) {
    let location = try StoreLocation(path)
    try location.requireNotPlanted()
    if store == nil, NewStore.place(location) == .taken {
      store = try Store.open(
        at: path,
        for: .writing,
        writerLock: writerLock,
        cancellation: control.cancellation
      )
    }
    try store?.requireWritable()
    // If a store cannot be made there, the save fails at once.
    if store == nil { newStore = try NewStore(location) }
    writerLock = try StoreLock.acquire(
      .writer,
      .exclusive,
      at: location,
      cancellation: control.cancellation
    )
    if newStore != nil, NewStore.place(location) == .taken {
      newStore = nil
      store = try Store.open(
        at: path,
        for: .writing,
        writerLock: writerLock,
        cancellation: control.cancellation
      )
    }
    try store?.prepare(for: request, control: control)
  }

  /// Reads RAM of a guest that runs, and stores it in the turn that was taken: candidates for the snapshot.
  func storeCandidates(_ ram: RunningRAM) throws(VMCheckpointError) -> RunningRAMReport? {
    guard let writerLock else { return nil }
    let candidates = try openStore().storeCandidates(
      ram,
      for: request,
      vm: PreparedSave.vm(request, calledByVMM: ram.vmName),
      writerLock: writerLock,
      control: control
    )
    self.candidates = candidates
    guard ram.measuresLook else { return RunningRAMReport(lookSeconds: nil) }
    // As when the guest is stopped, but for its overlays.
    let start = MonotonicClock.nowSeconds
    let cancellation = control.cancellation
    let none = OverlayDocument(guestOSID: nil, records: [])
    _ = try candidates.settled.look(
      ram.makeReader(),
      UnderlaySubstitution(plan: none.validated(in: ram.layout), absent: AbsentPages()),
      clock: candidates.clock
    ) { () throws(VMCheckpointError) in try cancellation.check() }
    return RunningRAMReport(lookSeconds: MonotonicClock.nowSeconds - start)
  }

  /// Removes what ``storeCandidates(_:)`` has stored, if nothing came of it.
  func abandonCandidates() {
    guard let candidates, let store else { return }
    self.candidates = nil
    store.abandon(candidates, writerLock: writerLock)
  }

  /// Saves, in the turn that was taken or waiting for one now.
  ///
  /// With candidates, RAM is compared with them first, and then the guest goes on.
  ///
  /// - Throws: ``VMCheckpointError`` as ``Store/save(_:control:)``.
  func save(_ given: PreparedSave) throws(VMCheckpointError) -> SaveResult {
    var prepared = given
    if let candidates, candidates.seen.layout == prepared.guest.layout {
      let (check, cancellation) = (prepared.guest.checkWhileStopped, control.cancellation)
      let isSettled = try candidates.settled.look(
        prepared.reader,
        prepared.guest.substitution,
        clock: candidates.clock
      ) { () throws(VMCheckpointError) in
        try cancellation.check()
        try check?()
      }
      if isSettled {
        prepared.reader = SettledRAMReader(candidates.settled)
        try prepared.guest.letGoOn?()
      } else if check != nil {
        throw VMCheckpointError(
          .unavailable,
          "the VM changes more of its RAM than can be kept, and would be stopped until all of it is stored; it runs "
            + "on, and nothing was saved",
          hint: "save without --max-pause, or when the VM has less to do"
        )
      } else {
        // Too much has changed to be kept in memory: it is stored while the guest is stopped.
        prepared.reader = try prepared.guest.makeReader()
      }
    }
    let store = try openStore()
    return try store.save(
      prepared,
      candidates: candidates,
      writerLock: writerLock,
      control: control
    )
  }

  /// The store, made now if there was none.
  private func openStore() throws(VMCheckpointError) -> Store {
    if let newStore {
      let location = try StoreLocation(path)
      try newStore.commit(replacingEmptyFile: NewStore.place(location) == .emptyFile)
      store = try Store.open(
        at: path,
        for: .writing,
        writerLock: writerLock,
        cancellation: control.cancellation
      )
      self.newStore = nil
    }
    if let store { return store }
    let opened = try Store.openOrCreate(at: path, cancellation: control.cancellation)
    store = opened
    return opened
  }
}
