import Foundation

/// What `remote.json` says: which remote this is, and the numbers that all who use it keep to.
package struct RemoteDescription: Sendable, Hashable {
  package static let formatVersion = 1
  package static let maximumByteCount = 64 << 10
  package static let leaseSecondsRange: ClosedRange<Int64> = 1...604_800

  /// Tells it from all others.
  package var uuid: String
  package var createdAt: String
  package var createdBy: String
  /// How long a push may take, by the server's clock, before it says again that it is there.
  package var leaseSeconds: Int64
  /// How much longer a collection waits.
  package var marginSeconds: Int64

  package init(leaseSeconds: Int64, marginSeconds: Int64) {
    uuid = UniqueID.make()
    createdAt = UTCTime.now
    createdBy = VMCheckpointVersion.producer
    self.leaseSeconds = leaseSeconds
    self.marginSeconds = marginSeconds
  }

  /// The object: JSON with a SHA-256 over its other members.
  package func encode() -> [UInt8] {
    var members: [String: Any] = [
      "format": Self.formatVersion, "uuid": uuid, "created_at": createdAt,
      "created_by": createdBy, "lease_seconds": leaseSeconds, "margin_seconds": marginSeconds,
      "encryption": "none",
    ]
    members["sha256"] = Self.digest(members)
    let data = try? JSONSerialization.data(
      withJSONObject: members,
      options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    )
    return Array(data ?? Data()) + [UInt8(ascii: "\n")]
  }

  /// - Throws: ``VMCheckpointError``: `corrupt` when it is none; `unavailable` when it is one of a newer format.
  package init(_ bytes: ArraySlice<UInt8>, title: String) throws(VMCheckpointError) {
    let damage = VMCheckpointError.corrupt("\(title): remote.json is damaged")
    guard bytes.count <= Self.maximumByteCount,
      var members = try? JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any],
      let format = members["format"] as? Int
    else { throw damage }
    guard format == Self.formatVersion, members["encryption"] as? String == "none" else {
      throw VMCheckpointError(
        .unavailable,
        "\(title) has a format or an encryption that this vmckpt does not know",
        hint: "use the vmckpt that made it, or a newer one"
      )
    }
    let digest = members.removeValue(forKey: "sha256") as? String
    guard digest == Self.digest(members), let uuid = members["uuid"] as? String,
      uuid.utf8.count == 36,
      let createdAt = members["created_at"] as? String,
      let createdBy = members["created_by"] as? String,
      let leaseSeconds = (members["lease_seconds"] as? Int).map(Int64.init),
      let marginSeconds = (members["margin_seconds"] as? Int).map(Int64.init),
      Self.leaseSecondsRange.contains(leaseSeconds),
      (0...Self.leaseSecondsRange.upperBound).contains(marginSeconds)
    else { throw damage }
    self.uuid = uuid
    self.createdAt = createdAt
    self.createdBy = createdBy
    self.leaseSeconds = leaseSeconds
    self.marginSeconds = marginSeconds
  }

  private static func digest(_ members: [String: Any]) -> String {
    let data = try? JSONSerialization.data(
      withJSONObject: members,
      options: [.sortedKeys, .withoutEscapingSlashes]
    )
    return hexadecimal(SHA256Hasher.hash(Array(data ?? Data())))
  }
}
