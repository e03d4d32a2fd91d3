import ArgumentParser
import VMCheckpoint

/// The rules that say which snapshots stay.
struct RetentionOptions: ParsableArguments {
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

  /// What they say together.
  var policy: RetentionPolicy {
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
