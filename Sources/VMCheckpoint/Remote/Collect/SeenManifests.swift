/// Remembers in the remote which manifests a collection has found valid.
///
/// A bucket that was copied or restored has new times, by which its manifests came too late. A collection that took that
/// for true would delete everything.
struct SeenManifests {
  private let link: RemoteLink

  init(_ link: RemoteLink) { self.link = link }

  /// How many manifests are void that were valid once, as far as can be known: those that a collection has seen valid,
  /// or all of them where none is valid.
  ///
  /// - Parameters:
  ///   - void: Those that were put too late by the times of the objects.
  ///   - validCount: How many count.
  /// - Throws: As ``RemoteTransport``; `corrupt`.
  func lostCount(void: [RemoteKey], validCount: Int) throws(VMCheckpointError) -> Int {
    guard !void.isEmpty else { return 0 }
    let seen = try ids()
    let lostCount = void.count { RemoteNames.id(ofManifest: $0).map(seen.contains) ?? false }
    return lostCount == 0 && validCount == 0 ? void.count : lostCount
  }

  /// - Throws: ``VMCheckpointError`` with the code `unavailable` when a manifest is void that was valid once, or all are.
  func requireNoneLost(void: [RemoteKey], validCount: Int) throws(VMCheckpointError) {
    let count = try lostCount(void: void, validCount: validCount)
    guard count > 0 else { return }
    throw VMCheckpointError(
      .unavailable,
      "\(link.transport.title): \(count == 1 ? "a snapshot" : "\(count) snapshots") would not count any "
        + "more by the times of the objects; the remote was copied or restored",
      hint: "nothing was deleted; let its snapshots count again with: vmckpt remote adopt"
    )
  }

  /// Writes down which manifests are valid, in place of what was written down before.
  func note(_ valid: [RemoteKey]) throws(VMCheckpointError) {
    let ids = valid.compactMap { RemoteNames.id(ofManifest: $0) }.sorted()
    let before = try link.list(RemoteNames.seen).map(\.key)
    if before.count == 1, try self.ids() == Set(ids) { return }
    guard !ids.isEmpty || !before.isEmpty else { return }
    try link.put(
      RemoteNames.seenManifests(RemoteID()),
      RemoteIDList.encode(.seenManifests, ids)
    )
    for key in before { try link.transport.delete(key) }
  }

  private func ids() throws(VMCheckpointError) -> Set<RemoteID> {
    var all = Set<RemoteID>()
    for facts in try link.list(RemoteNames.seen) {
      guard let (bytes, _) = try link.whole(facts.key) else { continue }
      let title = "\(link.transport.title)/\(facts.key)"
      all.formUnion(try RemoteIDList.decode(bytes[...], .seenManifests, title: title))
    }
    return all
  }
}
