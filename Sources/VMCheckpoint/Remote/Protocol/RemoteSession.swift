/// A push's word that it is under way, which collections wait for.
///
/// The rules, which `RemoteModelTests` checks in all orders of events:
///
/// 1. A session is put before the lists of condemned packs are read, and no pack that was read there is used.
/// 2. A manifest counts only if the server took it by its deadline: the session's time, by the server's clock, and the
///    remote's lease. Readers and collections pass over a late one.
/// 3. A session lives on only where it was put again by its deadline. Whoever is later begins anew.
/// 4. A collection lists the packs that it would delete before it looks who pushes. It waits until each session that it
///    found is gone, or was not put again for a lease and a margin, by the server's clock.
/// 5. Then it looks at all manifests again, and deletes what still no manifest names. Where it finds manifests late that
///    counted once, at either look, it deletes nothing: the objects have the times of a copy.
/// 6. A list of condemned packs is deleted only where another that is older than a lease and a margin has all of its packs,
///    also those that are gone. Of equal lists all collections keep the oldest. A merged list is as old as itself, not as
///    those that it replaces. A push puts its session again only when it has read all lists.
struct RemoteSession {
  private let link: RemoteLink
  private let key: RemoteKey
  /// When it was put first.
  private let begunSeconds: Int64
  /// Seconds since 1970 by the server's clock.
  private(set) var deadlineSeconds: Int64
  /// When it is to be put again, on ``MonotonicClock``.
  private var renewalSeconds: Double

  /// Puts a session.
  init(_ link: RemoteLink) throws(VMCheckpointError) {
    self.link = link
    key = RemoteNames.session(RemoteID())
    let facts = try Self.put(key, begunSeconds: 0, link)
    begunSeconds = facts.modifiedSeconds
    deadlineSeconds = facts.modifiedSeconds + link.description.leaseSeconds
    renewalSeconds = Self.nextRenewal(link)
  }

  /// Whether the session is to be put again.
  var needsRenewal: Bool { MonotonicClock.nowSeconds >= renewalSeconds }

  /// Puts the session again, where a third of its time is over.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `unavailable` when it was too late for that.
  mutating func renewIfNeeded() throws(VMCheckpointError) {
    guard needsRenewal else { return }
    let facts = try Self.put(key, begunSeconds: begunSeconds, link)
    guard facts.modifiedSeconds <= deadlineSeconds else { throw Self.isLate }
    deadlineSeconds = facts.modifiedSeconds + link.description.leaseSeconds
    renewalSeconds = Self.nextRenewal(link)
  }

  /// Puts a manifest that has this session's deadline.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `unavailable` when it came too late: it does not count then.
  func commit(_ manifest: RemoteKey, _ bytes: [UInt8]) throws(VMCheckpointError) {
    let facts = try link.put(manifest, bytes)
    guard facts.modifiedSeconds <= deadlineSeconds else {
      try? link.transport.delete(manifest)
      throw Self.isLate
    }
  }

  /// Says that nothing of it is under way any more. One that cannot be taken back only makes collections wait.
  func end() {
    try? link.transport.delete(key)
  }

  static let isLate = VMCheckpointError(
    .unavailable,
    "the push took longer than the remote's lease",
    hint: "push again: what was sent is not sent twice"
  )

  private static func nextRenewal(_ link: RemoteLink) -> Double {
    MonotonicClock.nowSeconds + Double(link.description.leaseSeconds) / 3
  }

  /// When a session was put first; `nil` when it is gone. One that cannot be read counts as begun long ago.
  static func begunSeconds(
    _ key: RemoteKey,
    _ link: RemoteLink
  ) throws(VMCheckpointError) -> Int64? {
    guard let (bytes, facts) = try link.whole(key, atMost: 4096) else { return nil }
    let title = "\(link.transport.title)/\(key)"
    guard let payload = try? SealedObject.open(bytes[...], .session, title: title) else { return 0 }
    var reader = ByteReader(payload, title: title)
    guard let begunSeconds = try? reader.little64() else { return 0 }
    // The first time it does not say, since only the server's reply told.
    return begunSeconds == 0 ? facts.modifiedSeconds : Int64(clamping: begunSeconds)
  }

  /// - Parameter begunSeconds: 0 for the first time.
  private static func put(
    _ key: RemoteKey,
    begunSeconds: Int64,
    _ link: RemoteLink
  ) throws(VMCheckpointError) -> RemoteObjectFacts {
    var payload = ByteWriter()
    payload.little64(UInt64(clamping: begunSeconds))
    payload.append(VMCheckpointVersion.producer.utf8)
    return try link.put(key, SealedObject.seal(.session, payload.bytes))
  }
}
