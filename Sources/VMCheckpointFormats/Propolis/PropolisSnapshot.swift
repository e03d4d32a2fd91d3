import VMCheckpoint

/// A snapshot of propolis-standalone, with all its members.
struct PropolisSnapshot: MemoryFormat {
  let name = "propolis"
  let summary = "A snapshot of propolis-standalone, with all its members"
  let form: RestoreFormat? = .propolis
  let describesLayout = true

  /// A tar archive whose first member is one of a snapshot's.
  func recognizes(_ head: FileHead) -> Bool {
    guard head.has("ustar", at: 257) else { return false }
    let member = head.text(at: 0, count: 100)
    return ["config.toml", "global.json"].contains(member)
      || member.hasPrefix("devices/") || member.hasPrefix("memory/")
      || ["devices", "memory"].contains(member)
  }

  func input(_ source: SourceReference) throws(VMCheckpointError) -> RAMInput {
    guard case .path(let path) = source.place else {
      throw VMCheckpointError(
        .invalidArgument,
        "a Propolis snapshot cannot be read from standard input",
        hint: "give its file: its RAM is read in place, and the archive's order may be any"
      )
    }
    return .propolis(path: path)
  }
}
