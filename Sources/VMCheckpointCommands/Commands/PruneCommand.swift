import ArgumentParser
import VMCheckpoint

/// `vmckpt prune`.
struct PruneCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "prune",
    abstract: "Delete the snapshots that no rule keeps, and free what only they used.",
    usage: "vmckpt prune --keep-... [--dry-run] [<options>]",
    discussion: """
      A snapshot stays when one of the rules keeps it. The rules look at each VM's snapshots \
      for themselves (--group-by). Those for periods keep the newest snapshot of each of so many \
      hours, days, weeks, months or years that have one, as UTC counts them; weeks begin on Monday. \
      The table shows what stays, and why.

      Where an old snapshot was pulled, or a clock was wrong, the newest by time and the newest that \
      came differ. Then each rule is applied in both orders, and what one of them keeps stays.

      The newest snapshot of a VM stays whatever the rules say, unless --delete-newest is given. \
      A snapshot that is being served stays too: see 'vmckpt lease'. Children of a deleted snapshot \
      keep all of their pages, and descend from its parent.

      Space is returned to the file system, as by 'vmckpt gc'.

      EXAMPLES:
        vmckpt prune --keep-last 3 --keep-daily 7 --keep-weekly 5 --dry-run
        vmckpt prune --keep-within 2d --keep-tag keep --vm web
      """
  )

  @OptionGroup var retention: RetentionOptions

  @Flag(name: .long, help: "Only show what would be deleted.")
  var dryRun = false

  @OptionGroup var common: CommonOptions

  var accomplishment: String? { dryRun ? nil : "the deletion is done" }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> PruneOutput {
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.open(
        at: storePath,
        for: dryRun ? .reading : .writing,
        cancellation: control.cancellation
      ).prune(retention.policy, dryRun: dryRun, control: control)
    }
    return PruneOutput(result, warnings: warnings)
  }
}
