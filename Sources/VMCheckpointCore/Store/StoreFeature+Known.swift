extension StoreFeature {
  /// Snapshots with absent pages: the table `absent_range`. Who does not know it would take them for zero.
  package static let absentRanges = StoreFeature(name: "absent-ranges", isNeededByReaders: true)

  /// The features that this program knows: absent pages, and overlay kinds that came after version 1.
  package static var known: Set<String> {
    Set(OverlayKind.allCases.compactMap(\.feature?.name)).union([absentRanges.name])
  }

  /// The tables that a store with the feature must have.
  package var tables: Set<String> { self == .absentRanges ? ["absent_range"] : [] }

  /// The first feature that keeps this program from reading, or from writing, if one does.
  ///
  /// - Parameter toWrite: Whether the store is to be written.
  package static func unknown(among features: [StoreFeature], toWrite: Bool) -> StoreFeature? {
    let known = known
    return features.first { !known.contains($0.name) && (toWrite || $0.isNeededByReaders) }
  }
}
