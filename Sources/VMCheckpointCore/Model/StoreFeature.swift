/// A named addition to a store's format, as a row of the table `feature` states it.
///
/// A store says by name what it has beyond its format's version, and who must know that. So programs that
/// do not know a feature leave a store alone where they would misread or harm it, and only there.
package struct StoreFeature: Hashable, Sendable {
  /// The name, which stays for ever.
  package var name: String
  /// Whether readers must know it. Writers always must.
  package var isNeededByReaders: Bool

  /// More rows than this are not read: a store may be hostile.
  package static let maximumCount = 64

  /// What reads the table; its columns are those of ``init(name:required:)``. What readers need comes
  /// first, so that the limit hides none of it.
  package static let query = """
    SELECT name, required FROM main.feature
     ORDER BY required = 'writer', name LIMIT \(maximumCount)
    """

  package init(name: String, isNeededByReaders: Bool) {
    self.name = name
    self.isNeededByReaders = isNeededByReaders
  }

  /// From a row's columns. What is not `writer` counts as `reader`.
  package init(name: String, required: String) {
    self.name = name
    isNeededByReaders = required != "writer"
  }
}
