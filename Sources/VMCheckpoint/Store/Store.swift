package import GRDB

/// A store: one SQLite file that holds snapshots of virtual machines.
///
/// A store object has one connection and may be shared between threads; operations on it wait
/// for each other. Processes share a store through SQLite's locks and ``StoreLock``. What each
/// operation writes in which order, and what a crash leaves, is the DocC article "Ordering".
///
/// The operations are in extensions beside their code: ``save(_:control:)``,
/// ``restore(_:control:)``, ``snapshots(vm:tags:)``, ``diff(_:_:maximumRangeCount:control:)``,
/// ``answer(_:arguments:control:)``, ``map(of:maximumCellCount:control:)``,
/// ``delete(_:control:)``, ``collectGarbage(dryRun:control:)``, ``optimize(control:)``,
/// ``verify(_:control:)`` and more.
public final class Store: Sendable {
  /// As it was given to ``open(at:for:cancellation:)``.
  public let path: String

  let location: StoreLocation
  let queue: DatabaseQueue
  let busy: BusyPolicy

  /// The file or its directory may not be written.
  let isReadOnly: Bool

  private init(
    location: StoreLocation,
    queue: DatabaseQueue,
    busy: BusyPolicy,
    isReadOnly: Bool
  ) {
    path = location.given
    self.location = location
    self.queue = queue
    self.busy = busy
    self.isReadOnly = isReadOnly
  }

  deinit { ConnectionKeeper.retire(queue) }

  /// Opens the store at `path`; reads only when the file may not be written. Waits while another program has
  /// the store for itself, for as long as `cancellation` lets it.
  ///
  /// - Parameters:
  ///   - purpose: Whether a store of an older format is brought up to this program's, or refused.
  ///   - cancellation: Ends that wait, and says how long the store's operations wait for other programs.
  /// - Throws: ``VMCheckpointError``: `notFound`, `corrupt`, `unavailable`, `permissionDenied`,
  ///   `locked`, `cancelled`. It is `corrupt` for what is not a store or is one of a newer format, and
  ///   `unavailable` for one of an older format that is only to be read.
  public static func open(
    at path: String,
    for purpose: StorePurpose = .reading,
    cancellation: CancellationFlag = CancellationFlag()
  ) throws(VMCheckpointError) -> Store {
    try open(at: path, for: purpose, writerLock: nil, cancellation: cancellation)
  }

  /// As ``open(at:for:cancellation:)``, for callers that may have the writer's lock.
  static func open(
    at path: String,
    for purpose: StorePurpose,
    writerLock: StoreLock?,
    cancellation: CancellationFlag
  ) throws(VMCheckpointError) -> Store {
    try open(path, cancellation) { location, busy throws(VMCheckpointError) in
      try StoreConnection.open(
        location: location,
        for: purpose,
        busy: busy,
        writerLock: writerLock,
        cancellation: cancellation
      )
    }
  }

  /// Opens the store at `path`, creating it with mode 0600 when there is none. Waits as
  /// ``open(at:for:cancellation:)``.
  ///
  /// - Throws: ``VMCheckpointError`` as ``open(at:for:cancellation:)``, and `cannotCreate`.
  public static func openOrCreate(
    at path: String,
    cancellation: CancellationFlag = CancellationFlag()
  ) throws(VMCheckpointError) -> Store {
    try open(path, cancellation) { location, busy throws(VMCheckpointError) in
      try StoreConnection.openOrCreate(
        location: location,
        busy: busy,
        cancellation: cancellation
      )
    }
  }

  private static func open(
    _ path: String,
    _ cancellation: CancellationFlag,
    _ connect: (StoreLocation, BusyPolicy) throws(VMCheckpointError) -> (DatabaseQueue, Bool)
  ) throws(VMCheckpointError) -> Store {
    let location = try StoreLocation(path)
    let busy = BusyPolicy(timeoutSeconds: cancellation.lockWaitSeconds)
    busy.observe(cancellation)
    defer { busy.observe(nil) }
    let (queue, isReadOnly) = try cancellation.explaining { () throws(VMCheckpointError) in
      try connect(location, busy)
    }
    return Store(location: location, queue: queue, busy: busy, isReadOnly: isReadOnly)
  }

  /// Runs `body` in a read transaction. Keep it short: a writer's commit waits for it.
  package func read<Result>(
    _ body: (Database) throws -> Result
  ) throws(VMCheckpointError) -> Result {
    busy.begin()
    return try translatingDatabaseErrors(storePath: path) { try queue.read(body) }
  }

  /// Runs `body`, which reads with one statement and so needs no transaction of its own.
  func readOnce<Result>(
    _ body: (Database) throws -> Result
  ) throws(VMCheckpointError) -> Result {
    busy.begin()
    return try translatingDatabaseErrors(storePath: path) { try queue.unsafeRead(body) }
  }

  /// As ``write(_:)``, for a few rows that somebody who frees space may need to write on a full disk: it may use
  /// what the store has kept for that.
  func writeOnFullDisk<Result>(
    _ body: (Database) throws -> Result
  ) throws(VMCheckpointError) -> Result {
    let reserve = StoreReserve(location)
    var result: Swift.Result<Result, VMCheckpointError>?
    reserve.lending {
      do throws(VMCheckpointError) {
        result = .success(try write(body))
      } catch {
        result = .failure(error)
      }
    }
    return try result!.get()
  }

  /// Runs `body` in a write transaction that is rolled back when it throws.
  package func write<Result>(
    _ body: (Database) throws -> Result
  ) throws(VMCheckpointError) -> Result {
    try requireWritable()
    busy.begin()
    return try translatingDatabaseErrors(storePath: path) { try queue.write(body) }
  }

  /// Gives `body` the connection for work that begins and ends transactions itself. Statements, and
  /// waits for other processes' transactions, end early when `control` is cancelled.
  func withConnection<Result>(
    control: OperationControl,
    _ body: (Database) throws -> Result
  ) throws(VMCheckpointError) -> Result {
    busy.begin()
    busy.observe(control.cancellation)
    defer { busy.observe(nil) }
    return try control.cancellation.explaining { () throws(VMCheckpointError) in
      try translatingDatabaseErrors(storePath: path) {
        try queue.writeWithoutTransaction { database in
          StatementInterruption.begin(database, control.cancellation)
          defer { StatementInterruption.end(database) }
          return try withExtendedLifetime(control.cancellation) { try body(database) }
        }
      }
    }
  }

  /// As ``withConnection(control:_:)``, for work that frees space: on a full disk it may use what the store has kept
  /// for that (``StoreReserve``), and keeps it anew at the end.
  func freeingSpace<Result>(
    control: OperationControl,
    _ body: (Database) throws -> Result
  ) throws(VMCheckpointError) -> Result {
    let reserve = StoreReserve(location)
    defer { reserve.fill() }
    return try withConnection(control: control) { database in
      try reserve.lending { try body(database) }
    }
  }

  /// Lets statements run to their ends from here on, whatever was cancelled: for the clean-up after an
  /// error, within ``withConnection(control:_:)``.
  func ignoreCancellation(_ database: Database) {
    busy.observe(nil)
    StatementInterruption.end(database)
  }

  /// As ``withConnection(control:_:)``, for reading chunks over several transactions: none of them
  /// is freed in the meantime.
  package func withSharedChunks<Result>(
    control: OperationControl,
    _ body: (Database) throws -> Result
  ) throws(VMCheckpointError) -> Result {
    let lock = try StoreLock.acquire(
      .chunks,
      .shared,
      at: location,
      cancellation: control.cancellation
    )
    defer { lock.release() }
    return try withConnection(control: control, body)
  }

  /// - Throws: ``VMCheckpointError``: `permissionDenied`, or `corrupt` when the store has a format or a
  ///   feature that this program does not know.
  func requireWritable() throws(VMCheckpointError) {
    guard !isReadOnly else {
      throw VMCheckpointError(
        .permissionDenied,
        "store \(quotedName(path)) is read-only",
        hint: "writing needs write permission for the store and for its directory"
      )
    }
    // Another program may have changed both since the store was opened.
    let (version, features) = try read {
      (try StoreFormat.version(of: $0), try StoreFormat.features(of: $0))
    }
    if version > StoreVersion.current {
      throw StoreFormat.newerVersion(version, path: path, known: StoreVersion.current)
    }
    if let feature = StoreFeature.unknown(among: features, toWrite: true) {
      throw StoreFormat.unknownFeature(feature, path: path, toWrite: true)
    }
  }
}

extension CancellationFlag {
  /// Runs `body`. What fails once ``cancel()`` was called fails because of that: a wait for a lock, for
  /// example, ends as `SQLITE_BUSY` then.
  ///
  /// - Throws: What `body` throws, or ``VMCheckpointError`` with the code `cancelled`.
  fileprivate func explaining<Result>(
    _ body: () throws(VMCheckpointError) -> Result
  ) throws(VMCheckpointError) -> Result {
    do throws(VMCheckpointError) {
      return try body()
    } catch {
      try check()
      throw error
    }
  }
}
