/// The program's version; the store's format has a version of its own.
public enum VMCheckpointVersion {
  /// Semantic version.
  public static let current = "0.1.0"

  /// The value of a snapshot's `producer` column.
  package static let producer = "vmckpt \(current)"
}
