import VMCheckpoint

/// What `--version --json` prints.
struct VersionOutput: Codable, Hashable, Sendable {
  var version = VMCheckpointVersion.current
}
