extension StoreFeature {
  /// The features that this program knows: those of overlay kinds that came after version 1.
  package static var known: Set<String> {
    Set(OverlayKind.allCases.compactMap(\.feature?.name))
  }

  /// The first feature that keeps this program from reading, or from writing, if one does.
  ///
  /// - Parameter toWrite: Whether the store is to be written.
  package static func unknown(among features: [StoreFeature], toWrite: Bool) -> StoreFeature? {
    let known = known
    return features.first { !known.contains($0.name) && (toWrite || $0.isNeededByReaders) }
  }
}
