/// What a remote holds.
public struct RemoteStatistics: Sendable, Hashable {
  /// Snapshots that count.
  public var snapshotCount: Int
  /// VMs that they are of.
  public var vmCount: Int
  /// Of all snapshots.
  public var ramByteCount: UInt64
  /// Pages that are not zero, of all snapshots.
  public var storedPageCount: UInt64
  /// Packs that are there.
  public var packCount: Int
  /// Of all packs.
  public var packByteCount: UInt64
  /// Packs that a snapshot needs.
  public var neededPackCount: Int
  /// Runs of the page index.
  public var indexRunCount: Int
  /// Of all manifests that count.
  public var manifestByteCount: UInt64
  /// Pushes that are under way, or were killed.
  public var sessionCount: Int
}

extension Store {
  /// Counts what a remote holds.
  ///
  /// - Throws: As ``RemoteTransport``.
  package func remoteStatistics(
    _ remote: RemoteRow,
    _ transport: any RemoteTransport,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> RemoteStatistics {
    let link = try RemoteLink(transport, uuid: remote.uuid)
    let snapshots = try RemoteCatalog(link, control: control).heads()
    var statistics = RemoteStatistics(
      snapshotCount: snapshots.count,
      vmCount: Set(snapshots.map(\.entry.summary.vm)).count,
      ramByteCount: 0,
      storedPageCount: 0,
      packCount: 0,
      packByteCount: 0,
      neededPackCount: 0,
      indexRunCount: 0,
      manifestByteCount: 0,
      sessionCount: try link.list(RemoteNames.sessions).count
    )
    var needed = Set<RemoteID>()
    for (entry, head) in snapshots {
      // What a stranger wrote may add up to anything.
      statistics.ramByteCount &+= entry.summary.ramByteCount
      statistics.storedPageCount &+= entry.summary.storedPageCount
      statistics.manifestByteCount &+= entry.byteCount
      needed.formUnion(head.packs)
    }
    statistics.neededPackCount = needed.count
    statistics.indexRunCount = try link.list(RemoteNames.indexRuns).count
    try transport.list(RemoteNames.packs, after: nil) { (batch) throws(VMCheckpointError) in
      try control.cancellation.check()
      for facts in batch where RemoteNames.packID(facts.key) != nil {
        statistics.packCount += 1
        statistics.packByteCount &+= facts.byteCount
      }
      return true
    }
    return statistics
  }
}
