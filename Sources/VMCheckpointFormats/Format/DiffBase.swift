public import VMCheckpoint

/// What a diff's holes are.
public enum DiffBase: Hashable, Sendable {
  /// The pages of a snapshot of the same store.
  case snapshot(SnapshotReference)
  /// Zeros: the file is not a diff, and its zero pages are holes.
  case zeros
}
