import Algorithms

/// Numbers of chunks in ascending order, to find the place of one among them.
struct ChunkIDList {
  private(set) var ids: [Int64] = []
  /// Where the last search ended; the next is likely to end there or just behind.
  private var lastIndex = 0

  /// - Parameter ids: Ascending.
  init(_ ids: [Int64] = []) {
    self.ids = ids
  }

  /// - Precondition: `id` is larger than all before.
  mutating func append(_ id: Int64) { ids.append(id) }

  /// - Complexity: O(1) for the one that was asked for last, or the next; else O(log *n*).
  mutating func index(of id: Int64) -> Int? {
    for candidate in [lastIndex, lastIndex + 1] where candidate < ids.count && ids[candidate] == id
    {
      lastIndex = candidate
      return candidate
    }
    let index = ids.partitioningIndex { $0 >= id }
    guard index < ids.count, ids[index] == id else { return nil }
    lastIndex = index
    return index
  }
}
