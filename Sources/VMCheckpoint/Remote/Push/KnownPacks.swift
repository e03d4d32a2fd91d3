/// Finds pages in packs of the remote: first in those that a VM's earlier snapshots have, then in those that the
/// remote's index names.
///
/// Memory: the footers that were found to matter, at most ``footerByteLimit``.
struct KnownPacks {
  private static let footerByteLimit = 48 << 20

  private var footers: [PackFooter] = []
  private var known = Set<RemoteID>()
  private var byteCount = 0

  var isEmpty: Bool { footers.isEmpty }
  /// Whether no more footers are taken.
  var isFull: Bool { byteCount >= Self.footerByteLimit }

  func has(_ pack: RemoteID) -> Bool { known.contains(pack) }

  mutating func add(_ footer: PackFooter) {
    guard known.insert(footer.id).inserted else { return }
    footers.append(footer)
    byteCount += footer.byteCount + footer.entries.count * MemoryLayout<PackFooter.Entry>.stride
  }

  /// A page that a footer lists.
  struct Found {
    var pack: RemoteID
    var entry: Int
    var slot: Int
  }

  /// Looks for pages.
  ///
  /// - Parameters:
  ///   - start: Footers before this one were asked before.
  ///   - wanted: What is found is taken out.
  ///   - body: Takes what is found.
  /// - Returns: Where to go on, when there are more footers.
  func find(
    from start: Int,
    _ wanted: inout WantedPages,
    _ body: (WantedPages.Page, Found) -> Void
  ) -> Int {
    for footer in footers[start...] where wanted.leftCount > 0 {
      for (number, entry) in footer.entries.enumerated() where entry.pageCount > 0 {
        for slot in 0..<entry.pageCount {
          let digest = footer.digest(entry.firstDigest + slot)
          guard let page = wanted.take(digest) else { continue }
          body(page, Found(pack: footer.id, entry: number, slot: slot))
        }
      }
    }
    return footers.count
  }
}
