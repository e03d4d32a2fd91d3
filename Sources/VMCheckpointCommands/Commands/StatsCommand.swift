import ArgumentParser
import VMCheckpoint

/// `vmckpt stats`.
struct StatsCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "stats",
    abstract: "Show what a store holds and what it saves.",
    usage: "vmckpt stats [<options>]",
    discussion: """
      EXAMPLES:
        vmckpt stats
        vmckpt stats --json | jq .free_bytes
      """
  )

  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> StatsOutput {
    StatsOutput(try common.openStore(in: session).statistics())
  }
}
