/// A list of condemned packs, as the remote has it.
struct CondemnedList {
  var key: RemoteKey
  var packs: Set<RemoteID>
  var modifiedSeconds: Int64
  /// The server's clock when the list was read or put.
  var serverSeconds: Int64

  init(_ facts: RemoteObjectFacts, _ packs: Set<RemoteID>) {
    key = facts.key
    self.packs = packs
    modifiedSeconds = facts.modifiedSeconds
    serverSeconds = facts.serverSeconds
  }
}

/// Keeps the lists of condemned packs few: every push lists them.
///
/// Rule 6 of ``RemoteSession``: a list is deleted only where another has all of its packs, and has been there for a lease
/// and a margin. A push that lists the lists after that one came sees it. Of a push that did so before, the first session
/// is older than a lease by then. It has read all lists, since it does so before it puts its session again, or it is late.
///
/// It may end after any of its steps, and others may do the same at once, with other lists. `RemoteModel` has these steps.
struct CondemnedListMerge {
  /// So many lists are left that no other one contains.
  private static let limit = 8

  private let link: RemoteLink

  init(_ link: RemoteLink) { self.link = link }

  /// - Parameter lists: All that there are, or some.
  /// - Throws: As ``RemoteTransport``. No pack is on fewer lists than before, if it was on one.
  func run(_ lists: [CondemnedList]) throws(VMCheckpointError) {
    // The longest first, and of equal ones the oldest: each can only be contained in one before it.
    let lists = lists.sorted {
      (-$0.packs.count, $0.modifiedSeconds, $0.key) < (-$1.packs.count, $1.modifiedSeconds, $1.key)
    }
    let patience = link.description.leaseSeconds + link.description.marginSeconds
    let now = lists.map(\.serverSeconds).max() ?? 0
    var kept: [CondemnedList] = []
    for list in lists {
      let containing = kept.filter { $0.packs.isSuperset(of: list.packs) }
      if containing.contains(where: { now - patience > $0.modifiedSeconds }) {
        try link.transport.delete(list.key)
      } else if containing.isEmpty {
        kept.append(list)
      }
    }
    guard kept.count > Self.limit else { return }
    let all = kept.reduce(into: Set<RemoteID>()) { $0.formUnion($1.packs) }
    try link.put(
      RemoteNames.condemnedPacks(RemoteID()),
      RemoteIDList.encode(.condemnedPacks, all.sorted())
    )
  }
}
