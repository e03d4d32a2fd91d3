import ArgumentParser
import VMCheckpoint

/// `vmckpt status`.
struct StatusCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Show what somebody who looks after a store wants to know every day.",
    usage: "vmckpt status [--openmetrics] [<options>]",
    discussion: """
      Of each VM its last snapshot, how old that is, what it and those of the last seven days \
      have added, and what has not been verified since it was saved; of the store its size, \
      its leases, and the free space of its file system. Reads no pages, so that it can be \
      asked each minute.

      With --openmetrics the same as text that monitoring systems scrape: write it into a \
      file that node_exporter's textfile collector reads, for example.

      EXAMPLES:
        vmckpt status
        vmckpt status --json | jq '.vms[] | select(.last_age_seconds > 7200) | .vm'
        vmckpt status --openmetrics > /var/lib/prometheus/node-exporter/vmckpt.prom
      """
  )

  @Flag(name: .long, help: "Print metrics in the text format of OpenMetrics.")
  var openmetrics = false

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard !(openmetrics && common.json) else {
      throw ValidationError("--openmetrics and --json are two formats: give one of them")
    }
  }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> StatusOutput {
    StatusOutput(try common.openStore(in: session).status(), asOpenMetrics: openmetrics)
  }
}
