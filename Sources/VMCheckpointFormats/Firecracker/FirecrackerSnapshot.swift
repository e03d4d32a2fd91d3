public import VMCheckpoint

/// A snapshot of Firecracker: a memory file and a vmstate file.
struct FirecrackerSnapshot: MemoryFormat {
  let name = "firecracker"
  let summary = "A snapshot of Firecracker, full or diff: its memory file and its vmstate file"
  let form: RestoreFormat? = .firecracker
  let describesLayout = true
  let readsDiffs = true

  /// A vmstate by itself: which file has the memory is then looked for.
  func recognizes(_ head: FileHead) -> Bool { FirecrackerState.recognizes(head) }

  func recognizes(directory path: String) -> Bool {
    FirecrackerFiles.hasState(SourceDirectory(path: path))
  }

  func input(_ source: SourceReference) throws(VMCheckpointError) -> RAMInput {
    guard case .path(let path) = source.place else {
      throw VMCheckpointError(
        .invalidArgument,
        "a Firecracker snapshot cannot be read from standard input",
        hint: "give its directory, or its memory file: which pages it has, its holes show"
      )
    }
    return RAMInput(
      FirecrackerSource(
        file: path,
        base: source.base,
        diffs: source.diffs,
        statePath: source.statePath
      )
    )
  }
}

extension RAMInput {
  /// A snapshot of Firecracker, RAM read in place.
  ///
  /// - Parameters:
  ///   - path: A directory with a memory file and a vmstate file, or the memory file.
  ///   - base: What the holes of the memory file are; `nil`: it has none.
  ///   - diffs: More memory files, or directories, that are laid over it in this order.
  ///   - statePath: The vmstate file of the last of them; `nil`: the one beside it.
  public static func firecracker(
    path: String,
    base: DiffBase? = nil,
    diffs: [String] = [],
    statePath: String? = nil
  ) -> RAMInput {
    RAMInput(FirecrackerSource(file: path, base: base, diffs: diffs, statePath: statePath))
  }
}

extension RestoreFormat {
  /// A directory with the memory file and the vmstate file of a snapshot of Firecracker.
  public static let firecracker = RestoreFormat(FirecrackerForm())
}
