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

      The newest snapshot of a VM stays whatever the rules say, unless --delete-newest is given. \
      A snapshot that is being served stays too: see 'vmckpt lease'. Children of a deleted snapshot \
      keep all of their pages, and descend from its parent.

      Space is returned to the file system, as by 'vmckpt gc'.

      EXAMPLES:
        vmckpt prune --keep-last 3 --keep-daily 7 --keep-weekly 5 --dry-run
        vmckpt prune --keep-within 2d --keep-tag keep --vm web
      """
  )

  @Option(
    name: .long,
    help: ArgumentHelp("Keep the newest N.", valueName: "n"),
    transform: RetentionCount.parse
  )
  var keepLast: Int?

  @Option(
    name: .long,
    help: ArgumentHelp("Keep the newest of each of the last N hours.", valueName: "n"),
    transform: RetentionCount.parse
  )
  var keepHourly: Int?

  @Option(
    name: .long,
    help: ArgumentHelp("Keep the newest of each of the last N days.", valueName: "n"),
    transform: RetentionCount.parse
  )
  var keepDaily: Int?

  @Option(
    name: .long,
    help: ArgumentHelp("Keep the newest of each of the last N weeks.", valueName: "n"),
    transform: RetentionCount.parse
  )
  var keepWeekly: Int?

  @Option(
    name: .long,
    help: ArgumentHelp("Keep the newest of each of the last N months.", valueName: "n"),
    transform: RetentionCount.parse
  )
  var keepMonthly: Int?

  @Option(
    name: .long,
    help: ArgumentHelp("Keep the newest of each of the last N years.", valueName: "n"),
    transform: RetentionCount.parse
  )
  var keepYearly: Int?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Keep all that are not older than this before the newest: such as 7d, 36h, 2w, 1y6m.",
      valueName: "span"
    ),
    transform: DurationArgument.parse
  )
  var keepWithin: CalendarDuration?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Keep all that have this tag; may be given several times.",
      valueName: "key[=value]"
    ),
    transform: TagConditionArgument.parse
  )
  var keepTag: [RetentionPolicy.TagCondition] = []

  @Flag(name: .long, help: "Keep all that others descend from.")
  var keepChildren = false

  @Flag(name: .long, help: "Delete even the newest snapshot of a VM, if no rule keeps it.")
  var deleteNewest = false

  @Option(
    name: .customLong("vm"),
    help: ArgumentHelp("Look only at this VM's snapshots.", valueName: "name")
  )
  var vm: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "What each rule is applied to: 'vm', 'tag:KEY', several of these with commas, or 'none'.",
      valueName: "groups"
    ),
    transform: GroupingArgument.parse
  )
  var groupBy: [RetentionPolicy.Grouping]?

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
      ).prune(policy, dryRun: dryRun, control: control)
    }
    return PruneOutput(result, warnings: warnings)
  }

  private var policy: RetentionPolicy {
    var policy = RetentionPolicy()
    policy.last = keepLast ?? 0
    policy.counts = [
      .hourly: keepHourly ?? 0, .daily: keepDaily ?? 0, .weekly: keepWeekly ?? 0,
      .monthly: keepMonthly ?? 0, .yearly: keepYearly ?? 0,
    ]
    policy.within = keepWithin
    policy.tags = keepTag
    policy.keepsParents = keepChildren
    policy.deletesNewest = deleteNewest
    policy.vm = vm
    if let groupBy { policy.grouping = groupBy }
    return policy
  }
}
