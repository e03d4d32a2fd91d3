import GRDB

/// The packs that collections have condemned, as all lists of the remote say.
struct CondemnedLists {
  private let database: Database
  private let link: RemoteLink
  private let remoteID: Int64

  init(_ database: Database, _ link: RemoteLink, remoteID: Int64) {
    self.database = database
    self.link = link
    self.remoteID = remoteID
  }

  /// Reads the lists that are new, and forgets what the store knows of the packs on them.
  ///
  /// - Throws: As ``RemoteTransport``; `corrupt`; or `DatabaseError`.
  func load() throws -> Set<RemoteID> {
    let table = RemoteObjectTable(database, remoteID: remoteID)
    let kept = try table.keys(RemoteNames.condemned)
    var all = Set<RemoteID>()
    var listed = Set<String>()
    for facts in try link.list(RemoteNames.condemned) {
      let title = "\(link.transport.title)/\(facts.key)"
      listed.insert(facts.key.text)
      if kept.contains(facts.key.text), let bytes = try table.data(facts.key.text),
        let packs = try? RemoteIDList.decode(bytes[...], .condemnedPacks, title: title)
      {
        all.formUnion(packs)
        continue
      }
      // Deleted meanwhile: another that was listed has all of its packs.
      guard let (bytes, _) = try link.whole(facts.key) else { continue }
      let packs = try RemoteIDList.decode(bytes[...], .condemnedPacks, title: title)
      all.formUnion(packs)
      try database.inTransaction(.immediate) {
        try PackTable(database, remoteID: remoteID).forget(packs)
        try table.insert(facts.key.text, bytes)
        return .commit
      }
    }
    let gone = kept.subtracting(listed)
    if !gone.isEmpty {
      try database.inTransaction(.immediate) {
        try table.remove(gone)
        return .commit
      }
    }
    return all
  }
}
