/// Finds names that a user may have meant.
package enum NameSuggestion {
  /// Up to three of `names`, the nearest first, whose edit distance to `name` is at most a third of
  /// its length, or that begin with it.
  ///
  /// - Complexity: O(*n* · *m*²) for *n* names of *m* characters.
  package static func nearest(to name: String, among names: [String]) -> [String] {
    let wanted = Array(name.lowercased().utf8)
    let limit = max(1, wanted.count / 3)
    return
      names
      .compactMap { candidate -> (name: String, distance: Int)? in
        let bytes = Array(candidate.lowercased().utf8)
        if bytes.starts(with: wanted) { return (candidate, 0) }
        guard abs(bytes.count - wanted.count) <= limit else { return nil }
        let distance = editDistance(wanted, bytes)
        return distance <= limit ? (candidate, distance) : nil
      }
      .sorted { ($0.distance, $0.name) < ($1.distance, $1.name) }
      .prefix(3)
      .map(\.name)
  }

  /// The Levenshtein distance.
  package static func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var previous = Array(0...b.count)
    for (row, byte) in a.enumerated() {
      var current = [row + 1]
      current.reserveCapacity(b.count + 1)
      for (column, other) in b.enumerated() {
        current.append(
          min(
            previous[column] + (byte == other ? 0 : 1),
            previous[column + 1] + 1,
            current[column] + 1
          )
        )
      }
      previous = current
    }
    return previous[b.count]
  }
}
