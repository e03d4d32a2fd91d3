/// A user's way to name a snapshot: a name, `latest`, `NAME~N` (its Nth parent), or the first
/// characters of its UUID.
public struct SnapshotReference: Hashable, Sendable, CustomStringConvertible {
  /// A name, `latest`, or a UUID prefix.
  public let base: String

  /// How many parents to go up from `base`.
  public let ancestorCount: Int

  /// Bounds the walk up; no chain of snapshots is longer.
  package static let maximumAncestorCount = 1_000_000

  /// Parses `text`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument` when no snapshot could have
  ///   this reference.
  public init(_ text: String) throws(VMCheckpointError) {
    let parts = text.split(separator: "~", maxSplits: 1, omittingEmptySubsequences: false)
    let base = parts.first.map(String.init) ?? ""
    try SnapshotName.check(base, what: "snapshot reference")
    self.base = base
    guard parts.count == 2 else {
      self.ancestorCount = 0
      return
    }
    guard !parts[1].isEmpty, parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }),
      let count = Int(parts[1]), count <= Self.maximumAncestorCount
    else {
      throw VMCheckpointError(
        .invalidArgument,
        "invalid snapshot reference \(quotedName(text))",
        hint: "after ~ comes the number of parents to go up, as in \(base)~1"
      )
    }
    self.ancestorCount = count
  }

  /// The reference in the form in which users write it.
  public var description: String { ancestorCount == 0 ? base : "\(base)~\(ancestorCount)" }
}
