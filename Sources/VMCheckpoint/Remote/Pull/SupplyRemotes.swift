/// The remotes that a ``RemoteSupply`` reads, each opened when it is needed first.
///
/// Thread-safe.
final class SupplyRemotes: Sendable {
  private static let changed = Monitor.Condition(0)
  /// How long a request is tried again before it is said that a VM waits.
  private static let retrySeconds = 3.0
  private static let stallSeconds = 10
  private static let pauseSeconds = 1.0

  private struct Opened {
    var row: RemoteRow
    var transport: any RemoteTransport
  }

  private struct State {
    var opened: [Int64: Opened] = [:]
    var isClosed = false
  }

  /// What is said and counted while a remote gives nothing.
  let outages: RemoteOutages

  private let store: Store
  private let fingerprinter: PageFingerprinter
  private let waits: Bool
  private let warn: @Sendable (String) -> Void
  /// Ends requests when nobody reads any more.
  private let ending = CancellationFlag()
  private let monitor = Monitor(conditionCount: 1)
  // Guarded by `monitor`.
  private nonisolated(unsafe) var state = State()

  /// - Parameters:
  ///   - name: The snapshot's.
  ///   - waits: Whether a remote that gives nothing is waited for.
  init(
    _ store: Store,
    _ fingerprinter: PageFingerprinter,
    ofSnapshot name: String,
    waits: Bool,
    warn: @escaping @Sendable (String) -> Void
  ) {
    self.store = store
    self.fingerprinter = fingerprinter
    self.waits = waits
    self.warn = warn
    outages = RemoteOutages(ofSnapshot: name, warn: warn)
  }

  /// Makes sure, without asking the remote, that it may be used.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `permissionDenied`, `notFound` or `unavailable`.
  func require(_ id: Int64) throws(VMCheckpointError) { _ = try open(row(id)) }

  /// Ends requests, and waiting.
  func close() {
    ending.cancel()
    monitor.withLock {
      state.isClosed = true
      monitor.wakeAll(Self.changed)
    }
  }

  /// Loads a range, for as long as it takes where that is waited for.
  ///
  /// - Throws: As ``ChunkRange/load(_:_:_:_:)``, but for what may pass, where that is waited for.
  func load(
    _ range: ChunkRange,
    _ chunk: ChunkBuffer,
    _ decoder: LZ4FrameDecoder,
    fromRemote id: Int64
  ) throws(VMCheckpointError) {
    try asking(id) { (transport, _) throws(VMCheckpointError) in
      try range.load(transport, chunk, decoder, fingerprinter)
    }
  }

  /// Asks a remote, for as long as it takes where that is waited for.
  ///
  /// - Throws: What `body` throws, but for what may pass, where that is waited for.
  private func asking(
    _ id: Int64,
    _ body: (any RemoteTransport, RemoteRow) throws(VMCheckpointError) -> Void
  ) throws(VMCheckpointError) {
    let row = try row(id)
    while true {
      do throws(VMCheckpointError) {
        let transport = try open(row)
        do throws(VMCheckpointError) {
          try body(transport, row)
        } catch {
          throw try cause(of: error, transport)
        }
        return outages.end(row)
      } catch {
        let isClosed = monitor.withLock { () -> Bool in
          // Credentials may be renewed.
          if error.code == .permissionDenied { state.opened[id] = nil }
          return state.isClosed
        }
        guard waits, !isClosed, Self.mayPass(error) else { throw error }
        outages.note(error, row)
        pause()
      }
    }
  }

  /// Finds the pages of a snapshot anew by the manifest that the remote has of it now, for as long as that takes where
  /// that is waited for.
  ///
  /// - Throws: As ``Store/renewPlaces(of:in:_:control:)``, but for what may pass, where that is waited for.
  func renewPlaces(
    of snapshot: SnapshotRow,
    inRemote id: Int64
  ) throws(VMCheckpointError) {
    try asking(id) { (transport, row) throws(VMCheckpointError) in
      let link = try RemoteLink(transport, uuid: row.uuid)
      // A connection of its own: that of the readers only reads.
      try Store.open(at: store.path)
        .renewPlaces(of: snapshot, in: row, link, control: OperationControl(cancellation: ending))
    }
  }

  /// Whether a pack is gone, or the remote with all that is in it: a folder that is not mounted, a bucket that was emptied.
  private func cause(
    of error: VMCheckpointError,
    _ transport: any RemoteTransport
  ) throws(VMCheckpointError) -> VMCheckpointError {
    guard error.code == .notFound, try transport.head(RemoteNames.description) == nil else {
      return error
    }
    return VMCheckpointError(
      .unavailable,
      "there is no remote at \(transport.title) any more",
      hint: "bring it back, or correct the address"
    )
  }

  /// Whether another try may go through later. Damage stays.
  private static func mayPass(_ error: VMCheckpointError) -> Bool {
    [.unavailable, .permissionDenied, .invalidData, .inputOutput, .locked, .outOfResources]
      .contains(error.code)
  }

  private func pause() {
    let deadline = MonotonicClock.nowSeconds + Self.pauseSeconds
    monitor.withLock {
      while !state.isClosed, monitor.wait(for: Self.changed, untilSeconds: deadline) {}
    }
  }

  private func row(_ id: Int64) throws(VMCheckpointError) -> RemoteRow {
    if let opened = monitor.withLock({ state.opened[id] }) { return opened.row }
    let row = try store.read { try RemoteTable($0).all().first { $0.id == id } }
    guard let row else {
      throw VMCheckpointError(.notFound, "the store does not know the remote any more")
    }
    return row
  }

  private func open(_ row: RemoteRow) throws(VMCheckpointError) -> any RemoteTransport {
    if let opened = monitor.withLock({ state.opened[row.id] }) { return opened.transport }
    // Packs are found by numbers that are never given twice, and pages are checked: no object has to be read first.
    var control = OperationControl(cancellation: ending)
    control.onWarning = warn
    let patience =
      waits
      ? RemotePatience(retrySeconds: Self.retrySeconds, stallSeconds: Self.stallSeconds) : nil
    let (_, transport) = try store.open(
      remote: row.name,
      RemoteAccess(),
      patience: patience,
      control: control
    )
    monitor.withLock { state.opened[row.id] = Opened(row: row, transport: transport) }
    return transport
  }
}

extension RemoteSupply {
  /// What was brought.
  package struct Counts: Sendable {
    package var chunkCount: UInt64 = 0
    /// Of the chunks.
    package var byteCount: UInt64 = 0
    /// How often a remote did not give what was asked for, though it was asked several times.
    package var waitCount: UInt64 = 0
    /// How long that lasted in all.
    package var waitSeconds = 0.0
  }
}
