import GRDB

/// A remote that a store has a name for.
public struct RemoteRow: Sendable, Hashable {
  var id: Int64
  /// How users call it in this store.
  public var name: String
  /// What the remote calls itself, the same for all stores.
  public var uuid: String
  /// `s3://BUCKET/PREFIX` or `file:///FOLDER`.
  public var address: String
  /// The URL of the server; `nil` for that of the address itself.
  public var endpoint: String?
  /// The region that requests are signed for.
  public var region: String?
  /// When this store learnt of it, as ISO 8601.
  public var addedAt: String

  /// For messages.
  var title: String { "remote \(quotedName(name))" }

  fileprivate init(_ row: Row) throws {
    id = try row.value(at: 0)
    name = try row.value(at: 1)
    uuid = try row.value(at: 2)
    address = try row.value(at: 3)
    endpoint = try row.optionalValue(at: 4)
    region = try row.optionalValue(at: 5)
    addedAt = try row.value(at: 6)
  }
}

/// The rows of the table `remote`.
struct RemoteTable {
  /// What a remote is called where nobody says otherwise.
  static let defaultName = "origin"
  private static let maximumCount = 1024

  private let database: Database

  init(_ database: Database) { self.database = database }

  /// Whether the store has ever learnt of a remote.
  var isThere: Bool {
    get throws {
      try StoreFormat.features(of: database).contains { $0.name == StoreFeature.remotes.name }
    }
  }

  /// All remotes, in the order of their names.
  func all() throws -> [RemoteRow] {
    guard try isThere else { return [] }
    return try Row.fetchAll(
      database,
      sql: """
        SELECT id, name, uuid, address, endpoint, region, added_at
          FROM remote ORDER BY name LIMIT \(Self.maximumCount)
        """
    ).map { try RemoteRow($0) }
  }

  /// The remote called `name`; without a name the only one, or that called `origin`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `notFound`, or `invalidArgument` when there are several.
  func remote(named name: String?) throws -> RemoteRow {
    let all = try all()
    if let name {
      if let remote = all.first(where: { $0.name == name }) { return remote }
      throw VMCheckpointError(
        .notFound,
        "the store has no remote \(quotedName(name))",
        hint: "see: vmckpt remote list"
      )
    }
    if all.count == 1 { return all[0] }
    if let remote = all.first(where: { $0.name == Self.defaultName }) { return remote }
    throw all.isEmpty
      ? VMCheckpointError(
        .notFound,
        "the store has no remote",
        hint: "name one with: vmckpt remote init s3://BUCKET/PREFIX, or vmckpt remote add"
      )
      : VMCheckpointError(
        .invalidArgument,
        "the store has \(all.count) remotes",
        hint: "say which one; see: vmckpt remote list"
      )
  }

  /// - Throws: ``VMCheckpointError`` with the code `cannotCreate` when the name is used.
  func insert(
    name: String,
    uuid: String,
    address: String,
    endpoint: String?,
    region: String?
  ) throws {
    try StoreFormat.add(.remotes, database)
    guard try !all().contains(where: { $0.name == name }) else {
      throw VMCheckpointError(
        .cannotCreate,
        "the store has a remote \(quotedName(name)) already",
        hint: "choose another --name, or take that one away with: vmckpt remote forget"
      )
    }
    try database.execute(
      sql: """
        INSERT INTO remote (name, uuid, address, endpoint, region, added_at)
        VALUES (?, ?, ?, ?, ?, ?)
        """,
      arguments: [name, uuid, address, endpoint, region, UTCTime.now]
    )
  }
}
