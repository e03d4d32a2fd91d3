/// stub
public final class Store: Sendable {
  public let path: String
  init(path: String) { self.path = path }

  /// Opens the store at `path`.
  public static func open(at path: String) throws(VMCheckpointError) -> Store { fatalError() }

  /// Opens the store at `path`, creating it with mode 0600 when there is none.
  public static func openOrCreate(at path: String) throws(VMCheckpointError) -> Store {
    fatalError()
  }

  public func save(
    _ request: SaveRequest, control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> SaveResult { fatalError() }

  public func restore(
    _ request: RestoreRequest, control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> RestoreResult { fatalError() }

  /// Complete snapshots in the order of their saving; `vm` and `tags` narrow the list.
  public func snapshots(
    vm: String? = nil, tags: [String: String] = [:]
  ) throws(VMCheckpointError) -> [SnapshotSummary] { fatalError() }

  public func snapshot(_ reference: SnapshotReference) throws(VMCheckpointError) -> SnapshotDetail {
    fatalError()
  }

  public func diff(
    _ a: SnapshotReference, _ b: SnapshotReference, maximumRangeCount: Int = .max,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> SnapshotDiff { fatalError() }

  /// Sets tags, and removes those whose keys stand in `removing`; returns the tags afterwards.
  public func tag(
    _ reference: SnapshotReference, setting tags: [String: String], removing keys: [String] = []
  ) throws(VMCheckpointError) -> SnapshotSummary { fatalError() }

  public func delete(
    _ references: [SnapshotReference], control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> DeleteResult { fatalError() }

  public func collectGarbage(
    dryRun: Bool = false, control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> CollectResult { fatalError() }

  /// `references` empty: the whole store.
  public func verify(
    _ references: [SnapshotReference] = [], control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> VerifyReport { fatalError() }

  public func statistics() throws(VMCheckpointError) -> StoreStatistics { fatalError() }
}
