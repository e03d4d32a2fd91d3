package import VMCheckpoint

/// What `remote init`, `add`, `list` and `forget` print.
package struct RemoteListOutput: CommandOutput, Hashable {
  /// A remote of the store.
  package struct Remote: Codable, Hashable, Sendable {
    var name: String
    var address: String
    @Nullable var endpoint: String?
    @Nullable var region: String?
    var uuid: String
    var addedAt: String

    enum CodingKeys: String, CodingKey {
      case name, address, endpoint, region, uuid
      case addedAt = "added_at"
    }
  }

  /// All that there are now.
  var remotes: [Remote]
  var warnings: [String]
  private var change: String?

  enum CodingKeys: CodingKey {
    case remotes, warnings
  }

  /// - Parameters:
  ///   - change: What was done to the remote called `name`: a verb in the past; `nil` for nothing.
  package init(_ remotes: [RemoteRow], change: String?, name: String?, warnings: [String]) {
    self.remotes = remotes.map {
      Remote(
        name: $0.name,
        address: $0.address,
        endpoint: $0.endpoint,
        region: $0.region,
        uuid: $0.uuid,
        addedAt: $0.addedAt
      )
    }
    self.warnings = warnings
    if let change, let name { self.change = "\(change) remote \(printable(name))\n" }
  }

  package var notice: String? {
    change == nil && remotes.isEmpty ? "the store has no remotes" : nil
  }

  package var text: String {
    if let change { return change }
    guard !remotes.isEmpty else { return "" }
    return TextTable(
      [("NAME", .left), ("ADDRESS", .left), ("ENDPOINT", .left), ("ADDED", .left)],
      rows: remotes.map { [$0.name, $0.address, $0.endpoint ?? "", $0.addedAt] }
    ).text()
  }
}
