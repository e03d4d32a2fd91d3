import ArgumentParser
import VMCheckpoint

/// `vmckpt gc`.
struct GcCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "gc",
    abstract: "Free what no snapshot uses and return space to the file system.",
    usage: "vmckpt gc [--dry-run] [<options>]",
    discussion: """
      Removes what interrupted saves left behind and chunks that no snapshot names, packs \
      anew chunks that are mostly dead, and shrinks the store's file.

      EXAMPLES:
        vmckpt gc --dry-run
        vmckpt gc
      """
  )

  @Flag(name: .long, help: "Only show what would be freed.")
  var dryRun = false

  @OptionGroup var common: CommonOptions

  var accomplishment: String? { dryRun ? nil : "the collection is done" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> GcOutput {
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.open(at: storePath, for: .writing, cancellation: control.cancellation)
        .collectGarbage(
          dryRun: dryRun,
          control: control
        )
    }
    return GcOutput(collected: CollectOutput(result), warnings: warnings)
  }
}
