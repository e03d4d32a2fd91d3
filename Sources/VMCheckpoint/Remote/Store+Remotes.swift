import GRDB

/// Where a remote is, and how to reach it.
public struct RemoteLocation: Sendable, Hashable {
  /// `s3://BUCKET/PREFIX` or `file:///FOLDER`.
  public var address: String
  /// The server's URL; `nil` for that of the address itself.
  public var endpoint: String?
  /// The region that requests are signed for.
  public var region: String?

  /// A remote at `address`.
  public init(address: String, endpoint: String? = nil, region: String? = nil) {
    self.address = address
    self.endpoint = endpoint
    self.region = region
  }
}

extension Store {
  /// The remotes that the store has names for.
  ///
  /// - Throws: ``VMCheckpointError``.
  public func remotes() throws(VMCheckpointError) -> [RemoteRow] {
    try read { try RemoteTable($0).all() }
  }

  /// The remote called `name`; without a name the only one, or that called `origin`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `notFound`, or `invalidArgument` when there are several.
  public func remote(named name: String?) throws(VMCheckpointError) -> RemoteRow {
    try read { try RemoteTable($0).remote(named: name) }
  }

  /// Gives a remote that is there a name in this store.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound` when there is no remote; `cannotCreate` when the name is used; and as
  ///   ``RemoteTransport``.
  package func addRemote(
    _ location: RemoteLocation,
    name: String,
    _ transport: any RemoteTransport
  ) throws(VMCheckpointError) {
    let link = try RemoteLink(transport, uuid: nil)
    try write { database in
      try RemoteTable(database).insert(
        name: name,
        uuid: link.description.uuid,
        address: location.address,
        endpoint: location.endpoint,
        region: location.region
      )
    }
  }

  /// Takes a remote's name away, and all that the store knows of it. Chunks whose data is only there cannot be read
  /// then.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound`; `locked` when snapshots of this store need the remote.
  public func forgetRemote(named name: String, force: Bool = false) throws(VMCheckpointError) {
    try write { database in
      let remote = try RemoteTable(database).remote(named: name)
      if !force, let snapshot = try RemoteNeed(database).firstSnapshot(needing: remote.id) {
        throw VMCheckpointError(
          .locked,
          "snapshot \(quotedName(snapshot)) has pages that are only in \(remote.title)",
          hint: "pull it first, or delete it"
        )
      }
      try database.execute(sql: "DELETE FROM remote WHERE id = ?", arguments: [remote.id])
    }
  }
}

/// Makes remotes.
package enum NewRemote {
  /// Puts what describes a new remote.
  ///
  /// - Returns: Its description.
  /// - Throws: ``VMCheckpointError``: `cannotCreate` when there is a remote already; and as ``RemoteTransport``.
  package static func make(
    _ transport: any RemoteTransport,
    leaseSeconds: Int64,
    marginSeconds: Int64
  ) throws(VMCheckpointError) -> RemoteDescription {
    guard try transport.head(RemoteNames.description) == nil else {
      throw VMCheckpointError(
        .cannotCreate,
        "there is a remote at \(transport.title) already",
        hint: "use it with: vmckpt remote add"
      )
    }
    let description = RemoteDescription(leaseSeconds: leaseSeconds, marginSeconds: marginSeconds)
    let bytes = description.encode()
    let result = bytes.withUnsafeBytes { buffer in
      Result { () throws(VMCheckpointError) in
        try transport.put(RemoteNames.description, buffer)
      }
    }
    _ = try result.get()
    // Of two that make one at once, the last is there for all.
    return try RemoteLink(transport, uuid: nil).description
  }
}

/// Which snapshots cannot be read without a remote.
struct RemoteNeed {
  private let database: Database

  init(_ database: Database) { self.database = database }

  /// The name of a snapshot with a page whose data is in no other place.
  func firstSnapshot(needing remoteID: Int64) throws -> String? {
    try String.fetchOne(
      database,
      sql: """
        SELECT s.name FROM chunk_place c
          JOIN remote_pack p ON p.id = c.pack_id AND p.remote_id = ?1
          JOIN ram_extent e ON e.chunk_id = c.chunk_id
          JOIN snapshot s ON s.id = e.snapshot_id AND s.state = 'complete'
         WHERE NOT EXISTS (SELECT 1 FROM chunk_data d WHERE d.chunk_id = c.chunk_id)
           AND NOT EXISTS (SELECT 1 FROM chunk_place o JOIN remote_pack q ON q.id = o.pack_id
                            WHERE o.chunk_id = c.chunk_id AND q.remote_id <> ?1)
         LIMIT 1
        """,
      arguments: [remoteID]
    )
  }
}
