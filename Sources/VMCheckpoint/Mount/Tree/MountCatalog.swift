import GRDB
import Synchronization

/// The tree of a mount, as the store has it now.
///
/// The store is asked each time whether another program has written to it, which is one look at its header. Only when
/// snapshots have come or gone is the tree made anew.
final class MountCatalog: Sendable {
  private struct State {
    var tree: MountTree
    var version: Int64
    /// How many snapshots there are, and the sum of their numbers: new ones have greater numbers than all before
    /// them, so that both together change with every change.
    var count: Int64
    var sum: Double
    var nextLookSeconds = 0.0
  }

  private let store: Store
  /// Those that are shown; `nil`: all.
  private let uuids: Set<String>?
  private let state: Mutex<State>

  /// - Throws: ``VMCheckpointError`` when the store cannot be read.
  init(_ store: Store, only uuids: Set<String>?) throws(VMCheckpointError) {
    self.store = store
    self.uuids = uuids
    let (version, count, sum) = try Self.look(store)
    let tree = MountTree(try Self.rows(store, uuids))
    state = Mutex(State(tree: tree, version: version, count: count, sum: sum))
  }

  /// The tree. Where the store cannot be read just now, the one before.
  var tree: MountTree {
    state.withLock { state in
      let now = MonotonicClock.nowSeconds
      guard now >= state.nextLookSeconds else { return state.tree }
      guard let version = try? Self.version(store), version != state.version else {
        return state.tree
      }
      guard let (_, count, sum) = try? Self.look(store) else { return state.tree }
      if (count, sum) != (state.count, state.sum) {
        guard let rows = try? Self.rows(store, uuids) else { return state.tree }
        state.tree = MountTree(rows)
        (state.count, state.sum) = (count, sum)
      }
      state.version = version
      // A store with very many snapshots that is written to all the time is not read all the time.
      let end = MonotonicClock.nowSeconds
      state.nextLookSeconds = end + 10 * (end - now)
      return state.tree
    }
  }

  /// A snapshot by its number, without a look at the store if it was there before: for who reads pages. It may be
  /// deleted by now, unless it has a lease.
  func snapshot(_ id: Int64) -> MountedSnapshot? {
    state.withLock { $0.tree.snapshots[id] } ?? tree.snapshots[id]
  }

  private static func version(_ store: Store) throws(VMCheckpointError) -> Int64 {
    try store.readOnce {
      try Int64.fetchOne($0.cachedStatement(sql: "PRAGMA data_version")) ?? 0
    }
  }

  private static func look(
    _ store: Store
  ) throws(VMCheckpointError) -> (version: Int64, count: Int64, sum: Double) {
    // The version is read first: what is written meanwhile is seen the next time.
    let version = try version(store)
    let (count, sum) = try store.readOnce { database in
      let row = try Row.fetchOne(
        database,
        sql: "SELECT count(*) AS n, total(id) AS s FROM snapshot WHERE state = 'complete'"
      )
      return (try row?.value("n") as Int64? ?? 0, try row?.value("s") as Double? ?? 0)
    }
    return (version, count, sum)
  }

  private static func rows(
    _ store: Store,
    _ uuids: Set<String>?
  ) throws(VMCheckpointError) -> [MountedSnapshot] {
    try store.readOnce { database in
      try Row.fetchAll(
        database,
        sql: """
          SELECT id, uuid, name, vm,
                 max(0, coalesce(CAST(strftime('%s', completed_at) AS INTEGER), 0)) AS completed
            FROM snapshot WHERE state = 'complete' ORDER BY id
          """
      ).map { row in
        MountedSnapshot(
          id: try row.value("id"),
          uuid: try row.value("uuid"),
          name: try row.value("name"),
          vm: try row.value("vm"),
          completedSeconds: UInt64(clamping: try row.value("completed") as Int64)
        )
      }.filter { uuids?.contains($0.uuid) ?? true }
    }
  }

  /// The numbers of the snapshots of which a dump left pages out.
  static func snapshotsWithAbsentPages(_ store: Store) throws(VMCheckpointError) -> [Int64] {
    try store.read { database in
      guard try StoreFormat.features(of: database).contains(.absentRanges) else { return [] }
      return try Row.fetchAll(
        database,
        sql: "SELECT DISTINCT snapshot_id FROM absent_range ORDER BY snapshot_id"
      ).map { try $0.value(at: 0) }
    }
  }
}
