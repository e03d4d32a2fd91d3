import GRDB

/// The runs of the remote's page index, kept in the store once they were read.
struct IndexRuns {
  private let database: Database
  private let link: RemoteLink
  private let remoteID: Int64

  init(_ database: Database, _ link: RemoteLink, remoteID: Int64) {
    self.database = database
    self.link = link
    self.remoteID = remoteID
  }

  /// The runs that the remote has.
  ///
  /// - Throws: As ``RemoteTransport``.
  func list() throws(VMCheckpointError) -> [RemoteObjectFacts] {
    try link.list(RemoteNames.indexRuns)
  }

  /// The packs that hold at least one of `pages`, by what the runs say; those with most of them first.
  ///
  /// A run that cannot be read is passed over: it is a hint.
  ///
  /// - Parameter runs: What ``list()`` returned.
  /// - Complexity: O(*n*) in the entries of all runs, of which one is in memory at a time.
  func packs(
    holding pages: WantedPages,
    _ runs: [RemoteObjectFacts]
  ) throws -> [RemoteID] {
    let table = RemoteObjectTable(database, remoteID: remoteID)
    let kept = try table.keys(RemoteNames.indexRuns)
    var hits: [RemoteID: Int] = [:]
    var listed = Set<String>()
    for facts in runs {
      listed.insert(facts.key.text)
      var bytes = try kept.contains(facts.key.text) ? table.data(facts.key.text) : nil
      if bytes == nil, let read = try link.whole(facts.key)?.bytes {
        bytes = read
        try database.inTransaction(.immediate) {
          try table.insert(facts.key.text, read)
          return .commit
        }
      }
      guard let bytes else { continue }
      try? IndexRunObject.forEachEntry(bytes[...], title: facts.key.text) { prefix, pack in
        if pages.has(prefix: prefix) { hits[pack, default: 0] += 1 }
      }
    }
    let gone = kept.subtracting(listed)
    if !gone.isEmpty {
      try database.inTransaction(.immediate) {
        try table.remove(gone)
        return .commit
      }
    }
    return hits.sorted { ($0.value, $1.key) > ($1.value, $0.key) }.map(\.key)
  }
}
