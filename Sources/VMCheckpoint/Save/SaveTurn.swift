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

  /// Saves, in the turn that was taken or waiting for one now.
  ///
  /// - Throws: ``VMCheckpointError`` as ``Store/save(_:control:)``.
  func save(_ prepared: PreparedSave) throws(VMCheckpointError) -> SaveResult {
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
    let store =
      if let store { store } else {
        try Store.openOrCreate(at: path, cancellation: control.cancellation)
      }
    return try store.save(prepared, writerLock: writerLock, control: control)
  }
}
