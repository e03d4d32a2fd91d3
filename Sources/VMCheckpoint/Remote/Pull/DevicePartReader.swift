import GRDB

/// Reads device states out of packs.
struct DevicePartReader {
  private let link: RemoteLink
  private let table: PackTable
  private let packs: [RemoteID]

  init(
    _ database: Database,
    _ link: RemoteLink,
    remoteID: Int64,
    _ packs: [RemoteID]
  ) throws {
    self.link = link
    self.packs = packs
    table = PackTable(database, remoteID: remoteID)
  }

  /// The stored form of a device state, each part with its SHA-256. That the whole is right, its row's SHA-256 says.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`; as ``RemoteLink``; `DatabaseError`.
  func bytes(of state: ManifestFacts.DeviceState) throws -> [UInt8] {
    var all: [UInt8] = []
    for part in state.parts {
      let damage = VMCheckpointError.corrupt("device state \(quotedName(state.name)) is damaged")
      guard Int(part.pack) < packs.count, all.count <= DeviceState.maximumByteCount else {
        throw damage
      }
      let pack = packs[Int(part.pack)]
      let footer = try footer(of: pack)
      guard Int(part.entry) < footer.entries.count else { throw damage }
      let entry = footer.entries[Int(part.entry)]
      guard entry.kind == .devicePart else { throw damage }
      let read = try link.part(
        RemoteNames.pack(pack),
        .bytes(offset: entry.offset, count: entry.storedByteCount),
        entry.storedByteCount
      )
      guard let bytes = read?.bytes else {
        throw VMCheckpointError(.notFound, "\(link.transport.title) has no pack \(pack)")
      }
      let digest = SHA256Hasher.hash(bytes).withUnsafeBytes {
        PageDigest(loadingFrom: $0.baseAddress!)
      }
      guard bytes.count == entry.storedByteCount, digest == footer.digest(entry.firstDigest) else {
        throw damage
      }
      all += bytes
    }
    return all
  }

  private func footer(of pack: RemoteID) throws -> PackFooter {
    if let stored = try table.footer(of: pack) {
      return try PackFooter(stored.footer[...], of: pack, packByteCount: stored.byteCount)
    }
    return try link.footer(of: pack).footer
  }
}
