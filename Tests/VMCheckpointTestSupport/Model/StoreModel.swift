/// A whole store's reference: its snapshots in the order of their saving.
package struct StoreModel {
  package private(set) var snapshots: [SnapshotModel] = []

  package init() {}

  package var names: [String] { snapshots.map(\.name) }

  package subscript(name: String) -> SnapshotModel? { snapshots.first { $0.name == name } }

  package mutating func add(_ snapshot: SnapshotModel) { snapshots.append(snapshot) }

  package mutating func setTag(_ key: String, _ value: String, of name: String) {
    guard let index = snapshots.firstIndex(where: { $0.name == name }) else { return }
    snapshots[index].tags[key] = value
  }

  /// Children of a deleted snapshot descend from its parent.
  package mutating func delete(_ name: String) {
    guard let deleted = self[name] else { return }
    snapshots.removeAll { $0.name == name }
    for index in snapshots.indices where snapshots[index].parent == name {
      snapshots[index].parent = deleted.parent
    }
  }

  /// How many pages the store must hold when each content is stored once.
  package var distinctPageCount: Int {
    snapshots.reduce(into: Set<[UInt8]>()) { $0.formUnion($1.distinctPages) }.count
  }
}
