import Synchronization

/// What is in the files of a mount: the small ones, and RAM by readers of snapshots that share one cache.
final class MountContents: Sendable {
  /// Snapshots whose files are known without asking the store.
  private static let filesCapacity = 256
  /// Readers of snapshots that nobody has open.
  private static let idleReaderCapacity = 8
  /// Small files that are kept for the next read.
  private static let bytesCapacity = 16 << 20

  private struct ReaderKey: Hashable {
    var snapshot: Int64
    /// Of files that show RAM alike, one number.
    var view: UInt16
  }

  private struct State {
    var files: [Int64: SnapshotFiles] = [:]
    var readers: [ReaderKey: (reader: SnapshotReader, use: UInt64)] = [:]
    var useCount: UInt64 = 0
    /// What readers brought from remotes that are not kept any more.
    var pastBrought = MountCounts()
    var bytes: [MountNode: [UInt8]] = [:]
    var bytesOrder: [MountNode] = []
  }

  let store: Store
  private let storePath: String
  private let forms: [any MountForm]
  private let describe: @Sendable (SnapshotDetail) -> [UInt8]
  private let cache: ChunkCache
  private let warn: @Sendable (String) -> Void
  /// For readers: what they wait for is warned about.
  private let control: OperationControl
  private let state = Mutex(State())
  // One thread at a time makes something that others would have to make as well. What takes long does not hold
  // up what takes little.
  private let makingFiles = Mutex(())
  private let makingReaders = Mutex(())
  private let makingBytes = Mutex(())

  /// - Parameter storePath: Absolute.
  init(
    _ store: Store,
    storePath: String,
    forms: [any MountForm],
    describe: @escaping @Sendable (SnapshotDetail) -> [UInt8],
    cache: ChunkCache,
    warn: @escaping @Sendable (String) -> Void
  ) {
    self.store = store
    self.storePath = storePath
    self.forms = forms
    self.describe = describe
    self.cache = cache
    self.warn = warn
    control = OperationControl(onWarning: warn)
  }

  /// Lets nobody wait for remotes any more: the mount is gone.
  func endBringing() {
    for (reader, _) in state.withLock({ Array($0.readers.values) }) { reader.endBringing() }
  }

  /// How many chunks were decoded.
  var decodedChunkCount: UInt64 { cache.decodedChunkCount }

  /// Adds what was brought from remotes, and how often and how long they gave nothing.
  func addBrought(to counts: inout MountCounts) {
    let (past, readers) = state.withLock { ($0.pastBrought, Array($0.readers.values)) }
    counts.remoteChunkCount += past.remoteChunkCount
    counts.remoteByteCount += past.remoteByteCount
    counts.remoteWaitCount += past.remoteWaitCount
    counts.remoteWaitSeconds += past.remoteWaitSeconds
    for (reader, _) in readers { counts.addBrought(by: reader) }
  }

  /// The files of a snapshot.
  ///
  /// - Throws: ``VMCheckpointError`` as ``SnapshotFiles/init(_:_:forms:describe:)``.
  func files(of snapshot: MountedSnapshot) throws(VMCheckpointError) -> SnapshotFiles {
    if let files = state.withLock({ $0.files[snapshot.id] }) { return files }
    return try makingFiles.withLock { _ throws(VMCheckpointError) -> SnapshotFiles in
      if let files = state.withLock({ $0.files[snapshot.id] }) { return files }
      let files = try SnapshotFiles(store, snapshot, forms: forms, describe: describe)
      files.problems.forEach(warn)
      state.withLock { state in
        if state.files.count >= Self.filesCapacity, let any = state.files.keys.first {
          state.files[any] = nil
        }
        state.files[snapshot.id] = files
      }
      return files
    }
  }

  // MARK: RAM

  /// The reader of a file that holds RAM.
  ///
  /// - Parameter isOpen: Whether somebody has files of a snapshot open: its readers are kept.
  /// - Throws: ``VMCheckpointError`` as ``SnapshotReader``.
  func reader(
    of file: SnapshotFiles.File,
    _ ram: MountedRAM,
    in snapshot: MountedSnapshot,
    isOpen: (Int64) -> Bool
  ) throws(VMCheckpointError) -> SnapshotReader {
    let key: ReaderKey
    switch ram.view {
    case .bare: key = ReaderKey(snapshot: snapshot.id, view: 0)
    case .applied: key = ReaderKey(snapshot: snapshot.id, view: 1)
    case .leaving: key = ReaderKey(snapshot: snapshot.id, view: file.number)
    }
    if let reader = known(key) { return reader }
    return try makingReaders.withLock { _ throws(VMCheckpointError) -> SnapshotReader in
      if let reader = known(key) { return reader }
      let reader = try open(snapshot, ram.view)
      state.withLock { state in
        state.useCount += 1
        state.readers[key] = (reader, state.useCount)
        let idle = state.readers.filter { !isOpen($0.key.snapshot) && $0.key != key }
          .sorted { $0.value.use < $1.value.use }
        for (key, found) in idle.dropLast(Self.idleReaderCapacity) {
          state.pastBrought.addBrought(by: found.reader)
          state.readers[key] = nil
        }
      }
      return reader
    }
  }

  private func known(_ key: ReaderKey) -> SnapshotReader? {
    state.withLock { state in
      guard let found = state.readers[key] else { return nil }
      state.useCount += 1
      state.readers[key] = (found.reader, state.useCount)
      return found.reader
    }
  }

  private func open(
    _ snapshot: MountedSnapshot,
    _ view: MountedRAM.View
  ) throws(VMCheckpointError) -> SnapshotReader {
    var treatment = OverlayTreatment.apply
    var isLeft: @Sendable (Overlay) -> Bool = { _ in false }
    switch view {
    case .bare: treatment = .omit
    case .applied: break
    case .leaving(let leaves): isLeft = leaves
    }
    let reader = try SnapshotReader(
      storePath: storePath,
      reference: SnapshotReference(snapshot.uuid),
      overlays: treatment,
      tscFrequencyHz: nil,
      cpuVendor: nil,
      cache: cache,
      waitsForRemotes: true,
      control: control,
      leavesToVMM: isLeft
    )
    // A name may look like a UUID.
    guard reader.uuid == snapshot.uuid else {
      throw VMCheckpointError(
        .notFound,
        "snapshot \(quotedName(snapshot.name)) was deleted in the meantime"
      )
    }
    return reader
  }

  /// The bytes at the beginning of a file with RAM that are made of RAM.
  func head(
    _ node: MountNode,
    _ head: MountedRAM.Head,
    _ reader: SnapshotReader
  ) throws(VMCheckpointError) -> [UInt8] {
    try bytes(node) { () throws(VMCheckpointError) in
      try Self.translating { try head.make(reader) }
    }
  }

  // MARK: Small files

  /// All bytes of a small file.
  func bytes(
    _ node: MountNode,
    of snapshot: MountedSnapshot,
    load: @Sendable (any RestorableGuest) throws -> [UInt8]
  ) throws(VMCheckpointError) -> [UInt8] {
    try bytes(node) { () throws(VMCheckpointError) in
      try store.read { database in
        guard let row = try SnapshotCatalog.fetch(id: snapshot.id, in: database),
          row.uuid == snapshot.uuid
        else {
          throw VMCheckpointError(
            .notFound,
            "snapshot \(quotedName(snapshot.name)) was deleted in the meantime"
          )
        }
        let layout = try row.layout(database)
        return try load(
          PlannedSnapshot(
            row,
            layout: layout,
            absent: try row.absentPages(database, in: layout),
            database
          )
        )
      }
    }
  }

  /// The description of a snapshot as it is now: tags and relatives may have changed.
  func description(of snapshot: MountedSnapshot) throws(VMCheckpointError) -> [UInt8] {
    describe(try store.snapshot(SnapshotReference(snapshot.uuid)))
  }

  private func bytes(
    _ node: MountNode,
    _ make: () throws(VMCheckpointError) -> [UInt8]
  ) throws(VMCheckpointError) -> [UInt8] {
    if let bytes = state.withLock({ $0.bytes[node] }) { return bytes }
    return try makingBytes.withLock { _ throws(VMCheckpointError) -> [UInt8] in
      if let bytes = state.withLock({ $0.bytes[node] }) { return bytes }
      let bytes = try make()
      state.withLock { state in
        state.bytes[node] = bytes
        state.bytesOrder.append(node)
        var count = state.bytes.values.reduce(0) { $0 + $1.count }
        // The newest one stays, whatever its size.
        while count > Self.bytesCapacity, state.bytesOrder.count > 1 {
          count -= state.bytes.removeValue(forKey: state.bytesOrder.removeFirst())?.count ?? 0
        }
      }
      return bytes
    }
  }

  private static func translating<Result>(
    _ body: () throws -> Result
  ) throws(VMCheckpointError) -> Result {
    do {
      return try body()
    } catch let error as VMCheckpointError {
      throw error
    } catch {
      throw VMCheckpointError(.inputOutput, "\(error)")
    }
  }
}
