import GRDB

/// Footers of packs: the store's, or the remote's, which the store keeps then.
struct StoredFooters {
  private let packs: PackTable
  private let link: RemoteLink

  init(_ packs: PackTable, _ link: RemoteLink) {
    self.packs = packs
    self.link = link
  }

  /// The footers of some packs, in their order. Those that the store lacks are read side by side. All of them are in
  /// memory.
  ///
  /// A pack that was deleted is passed over: nothing of it is used.
  ///
  /// - Throws: As ``RemoteLink/footer(of:)``, or `DatabaseError`.
  func footers(of wanted: [RemoteID], _ database: Database) throws -> [PackFooter] {
    var found: [RemoteID: PackFooter] = [:]
    for pack in wanted {
      guard let stored = try packs.footer(of: pack) else { continue }
      found[pack] = try? PackFooter(stored.footer[...], of: pack, packByteCount: stored.byteCount)
    }
    let link = link
    typealias FooterRead = (footer: PackFooter, bytes: ArraySlice<UInt8>, byteCount: UInt64)
    let read = try SideBySide.map(wanted.filter { found[$0] == nil }) {
      (pack) throws(VMCheckpointError) -> FooterRead? in
      do throws(VMCheckpointError) {
        return try link.footer(of: pack)
      } catch  where error.code == .notFound {
        return nil
      }
    }
    guard !read.isEmpty else { return wanted.compactMap { found[$0] } }
    // No transaction waits for the network.
    try database.inTransaction(.immediate) {
      for case (let footer, let bytes, let byteCount)? in read {
        found[footer.id] = footer
        _ = try packs.insert(footer.id, byteCount: byteCount, footer: bytes)
      }
      return .commit
    }
    return wanted.compactMap { found[$0] }
  }
}
