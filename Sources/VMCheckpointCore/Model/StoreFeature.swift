/// A named addition to a store's format, as a row of the table `feature` states it.
///
/// A store says by name what it has beyond its format's version, and who must know that. So programs that
/// do not know a feature leave a store alone where they would misread or harm it, and only there.
package struct StoreFeature: Hashable, Sendable {
  /// The name, which stays for ever.
  package var name: String
  /// Whether readers must know it. Writers always must.
  package var isNeededByReaders: Bool

  /// The features that this program knows. Version 1 has none yet.
  package static let known: Set<String> = []

  /// More rows than this are not read: a store may be hostile.
  package static let maximumCount = 64

  /// What reads the table; its columns are those of ``init(name:required:)``. What readers need comes
  /// first, so that the limit hides none of it.
  package static let query = """
    SELECT name, required FROM main.feature
     ORDER BY required = 'writer', name LIMIT \(maximumCount)
    """

  /// From a row's columns. What is not `writer` counts as `reader`.
  package init(name: String, required: String) {
    self.name = name
    isNeededByReaders = required != "writer"
  }

  /// The first feature that keeps this program from reading, or from writing, if one does.
  ///
  /// - Parameter toWrite: Whether the store is to be written.
  package static func unknown(among features: [StoreFeature], toWrite: Bool) -> StoreFeature? {
    features.first { !known.contains($0.name) && (toWrite || $0.isNeededByReaders) }
  }
}
