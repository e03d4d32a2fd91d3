import ArgumentParser
import VMCheckpoint

/// `vmckpt dmesg`.
struct DmesgCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "dmesg",
    abstract: "Show what the guest's kernel logged.",
    usage: "vmckpt dmesg <ref> [-T | -t] [-x] [-l <level>,...] [<options>]",
    discussion: """
      The log is read from the guest's RAM, as dmesg would show it: of Linux 5.10 and later, \
      for x86-64 and arm64. No symbol file is needed. A guest can lie, and the pages of its log \
      can be torn when it was not paused: what is broken is left out, and counted in a warning.

      EXAMPLES:
        vmckpt dmesg latest
        vmckpt dmesg -T web/7 | grep -i error
        vmckpt dmesg -x -l err,warn web/7
        vmckpt query log-since web/6 web/7
      """
  )

  @Argument(
    help: ArgumentHelp("The snapshot.", valueName: "ref"),
    completion: SnapshotCompletion.kind
  )
  var reference: String

  @Flag(
    name: [.customShort("T"), .customLong("ctime")],
    help: "Show the time of day, in UTC, by the guest's clock."
  )
  var showsTimeOfDay = false

  @Flag(name: [.customShort("t"), .customLong("notime")], help: "Show no times.")
  var hidesTime = false

  @Flag(
    name: [.customShort("x"), .customLong("decode")],
    help: "Show each record's facility and level."
  )
  var decodes = false

  @Option(
    name: [.customShort("l"), .customLong("level")],
    help: ArgumentHelp(
      "Only these: emerg, alert, crit, err, warn, notice, info, debug.",
      valueName: "level,..."
    ),
    transform: LogLevel.list
  )
  var levels: [LogLevel]?

  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> DmesgOutput {
    let reference = try SnapshotReference(reference)
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (view, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.open(at: storePath, cancellation: control.cancellation)
        .guestLog(of: reference, control: control)
    }
    return DmesgOutput(
      view,
      style: DmesgOutput.Style(
        time: hidesTime ? .none : showsTimeOfDay ? .ofDay : .sinceBoot,
        isDecoded: decodes
      ),
      levels: levels,
      warnings: warnings
    )
  }
}

/// How urgent a record of a log is, as dmesg names it.
enum LogLevel: String, CaseIterable {
  case emerg, alert, crit, err, warn, notice, info, debug

  /// As the kernel numbers it.
  var number: UInt64 { UInt64(Self.allCases.firstIndex(of: self)!) }

  /// Names with commas between.
  static func list(_ text: String) throws(ArgumentError) -> [LogLevel] {
    var levels: [LogLevel] = []
    for name in text.split(separator: ",", omittingEmptySubsequences: false) {
      guard let level = LogLevel(rawValue: String(name)) else {
        throw ArgumentError(
          "expected \(allCases.map(\.rawValue).joined(separator: ", ")), with commas between"
        )
      }
      levels.append(level)
    }
    return levels
  }
}
