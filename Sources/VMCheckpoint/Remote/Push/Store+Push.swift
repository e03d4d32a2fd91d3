import Algorithms
import GRDB

/// What a push did.
public struct PushResult: Sendable, Hashable {
  /// The snapshot's name.
  public var name: String
  /// The same in every store.
  public var uuid: String
  /// The VM that it is of.
  public var vm: String
  /// The remote's name in this store.
  public var remote: String
  /// Whether the remote had the snapshot before.
  public var wasThere: Bool
  /// Whether the remote's snapshot has got the working set that was recorded here after it was pushed.
  public var gaveWorkingSet: Bool
  /// Packs that were sent.
  public var packCount: Int
  /// Of all objects that were sent.
  public var sentByteCount: UInt64
  /// Pages in the packs that were sent.
  public var sentPageCount: UInt64
  /// Distinct pages of the snapshot that the remote had before.
  public var reusedPageCount: UInt64
  /// Requests that put or list.
  public var putRequestCount: Int
  /// Requests that read.
  public var getRequestCount: Int
  /// Wall time.
  public var durationSeconds: Double
}

extension Store {
  /// Pushes a snapshot to a remote: what the remote does not have is sent, and then the snapshot is there for all who use
  /// it, or not at all.
  ///
  /// The remote's snapshot gets the working set that was recorded here since, where that is newer.
  ///
  /// The chunks' lock is held shared while chunks are read, and not while the network is waited for: saves go on, and so
  /// does gc, after a moment. A push that ended early has sent packs that the next one does not send again.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound`; `cannotCreate` when the remote has another snapshot of that name;
  ///   `unavailable` when the push took longer than the remote's lease; `locked` when the store's pages are moved again
  ///   and again; `corrupt`; and as ``RemoteTransport``.
  package func push(
    _ reference: SnapshotReference,
    to remote: RemoteRow,
    _ transport: any RemoteTransport,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> PushResult {
    let start = MonotonicClock.nowSeconds
    try requireWritable()
    let before = transport.requestCounts
    let link = try RemoteLink(transport, uuid: remote.uuid)
    return try withConnection(control: control) { database in
      do {
        let snapshot = try SnapshotCatalog.resolve(reference, in: database)
        let (outcome, totals) = try push(snapshot, database, link, remoteID: remote.id, control)
        let after = transport.requestCounts
        return PushResult(
          name: snapshot.name,
          uuid: snapshot.uuid,
          vm: snapshot.vm,
          remote: remote.name,
          wasThere: outcome != .pushed,
          gaveWorkingSet: outcome == .gaveWorkingSet,
          packCount: totals.sentPackCount,
          sentByteCount: after.sentByteCount - before.sentByteCount,
          sentPageCount: totals.sentPageCount,
          reusedPageCount: totals.reusedPageCount,
          putRequestCount: after.puts + after.lists - before.puts - before.lists,
          getRequestCount: after.gets + after.heads - before.gets - before.heads,
          durationSeconds: MonotonicClock.nowSeconds - start
        )
      } catch {
        if database.isInsideTransaction { try? database.rollback() }
        throw error
      }
    }
  }

  /// Pushes several snapshots, one after the other. One that cannot be pushed, since its name is taken in the remote for
  /// example, is passed over with a warning.
  ///
  /// - Returns: What was pushed, and with which error it ended.
  /// - Throws: ``VMCheckpointError``: `notFound` when a snapshot is not in the store, and nothing is pushed then; else as
  ///   ``push(_:to:_:control:)``, when nothing was pushed.
  package func push(
    _ references: [SnapshotReference],
    to remote: RemoteRow,
    _ transport: any RemoteTransport,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> PushReport {
    let snapshots = try read { database in
      Array(
        try references.map { try SnapshotCatalog.resolve($0, in: database) }.uniqued(on: \.id)
      )
    }
    // That the remote is gone, or another one, is not the snapshots' fault.
    _ = try RemoteLink(transport, uuid: remote.uuid)
    var report = PushReport(wantedCount: snapshots.count)
    for snapshot in snapshots {
      do throws(VMCheckpointError) {
        let reference = try SnapshotReference(snapshot.uuid)
        report.results.append(try push(reference, to: remote, transport, control: control))
      } catch {
        guard report.note(error, snapshot, control) else { break }
      }
    }
    return try report.checked()
  }

  /// A push that begins anew where the snapshot's pages were moved meanwhile. What was sent until then is found again.
  private func push(
    _ snapshot: SnapshotRow,
    _ database: Database,
    _ link: RemoteLink,
    remoteID: Int64,
    _ control: OperationControl
  ) throws -> (PushOperation.Outcome, PushOperation.Totals) {
    let hold = ChunksHold(location, control.cancellation)
    for _ in 0..<Self.pushAttemptCount {
      var operation = try PushOperation(
        database,
        link,
        remoteID: remoteID,
        snapshot,
        hold,
        control: control
      )
      do {
        return (try operation.run(), operation.totals)
      } catch is PushedPages.Moved {
        continue
      }
    }
    throw VMCheckpointError(
      .locked,
      "the pages of \(snapshot.title) were moved in the store again and again while it was pushed",
      hint: "push again when gc and optimize are done"
    )
  }

  private static let pushAttemptCount = 5
}
