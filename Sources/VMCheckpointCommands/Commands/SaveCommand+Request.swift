package import VMCheckpoint
import VMCheckpointFormats

extension SaveCommand {
  /// What the arguments ask for. Reads the overlays.
  package func makeRequest(
    in session: CommandSession,
    storePath: String
  ) throws(VMCheckpointError) -> SaveRequest {
    let source = try sourceOptions.parse(hasBase: base != nil)
    try checkMaximumPause(source)
    if let name { try SnapshotName.check(name) }
    if let vm { try SnapshotName.check(vm, what: "VM name") }
    let tags = try TagArgument.dictionary(tag)
    let base = try findBase(storePath)
    let parent = try makeParent(base)
    return SaveRequest(
      input: try sourceOptions.makeInput(
        source,
        base: base?.base,
        maximumPauseSeconds: maxPause.map { Double($0) / 1000 },
        in: session
      ),
      layout: source.layout,
      name: name,
      vm: vm ?? base?.vm,
      parent: parent,
      tags: tags,
      overlays: try sourceOptions.readOverlays(source, in: session),
      findsOverlays: sourceOptions.findsOverlays,
      deviceStates: try deviceState.map { argument throws(VMCheckpointError) in try argument.read()
      },
      compression: compression
    )
  }

  /// What --base says, and the snapshot that it names: the new one is of the same VM, and descends from it.
  private struct Base {
    var base: DiffBase
    var vm: String?
    var parent: SnapshotReference?
  }

  private func findBase(_ storePath: String) throws(VMCheckpointError) -> Base? {
    guard let base else { return nil }
    guard base != Self.zeroBase else { return Base(base: .zeros) }
    let found = try Store.open(at: storePath, cancellation: common.waiting).snapshot(
      SnapshotReference(base)
    ).summary
    // Another save must not change what `latest` means.
    let reference = try SnapshotReference(found.uuid)
    return Base(base: .snapshot(reference), vm: found.vm, parent: reference)
  }

  /// The value of --base for a file whose holes are zeros.
  private static let zeroBase = "none"

  private func makeParent(_ base: Base?) throws(VMCheckpointError) -> ParentChoice {
    guard let parent else {
      guard !noParent else { return .none }
      return base?.parent.map { .snapshot($0) } ?? .newestOfSameVM
    }
    guard !noParent else {
      throw VMCheckpointError(
        .invalidArgument,
        "--parent and --no-parent exclude each other",
        hint: "give one"
      )
    }
    return .snapshot(try SnapshotReference(parent))
  }

  private func checkMaximumPause(_ source: SourceOptions.Source) throws(VMCheckpointError) {
    guard let maxPause else { return }
    let problem: String? =
      if !source.format.savesLive {
        "--max-pause goes with a SOURCE of qemu:"
      } else if sourceOptions.leaveStopped {
        "--max-pause and --leave-stopped exclude each other"
      } else if maxPause < 1 {
        "--max-pause is a number of milliseconds, and at least 1"
      } else {
        nil
      }
    if let problem {
      throw VMCheckpointError(.invalidArgument, problem, hint: "leave it out")
    }
  }
}
