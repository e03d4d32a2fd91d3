import ArgumentParser
import VMCheckpoint

/// `vmckpt query`.
struct QueryCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "query",
    abstract: "Ask a store a question out of a library of queries.",
    usage: "vmckpt query [<name> [<value>]...] [--sql] [<options>]",
    discussion: """
      Without a name, lists the queries with their parameters. Values are given in the \
      parameters' order, or as 'parameter=value'; those in brackets may be left out. A \
      snapshot is given as a REF.

      With --sql nothing is asked; what is printed can be pasted into the sqlite3 shell, or \
      piped into it, on the same store. Questions about guests need vmckpt's functions there: \
      pipe them into vmckpt sql.

      EXAMPLES:
        vmckpt query
        vmckpt query changes web/1 web/2
        vmckpt query processes-changed web/1 web/2
        vmckpt query page-history pfn=0x4000 vm=web
        vmckpt query overlays --sql | sqlite3 -readonly -box vmckpt.db
        vmckpt query log --sql | vmckpt sql
        vmckpt query growth --json | jq '.rows[].total_stored_bytes'
      """
  )

  @Argument(help: ArgumentHelp("The query. (default: list all)", valueName: "name"))
  var name: String?

  @Argument(
    help: ArgumentHelp("Its parameters.", valueName: "value"),
    completion: SnapshotCompletion.kind
  )
  var values: [String] = []

  @Flag(name: .long, help: "Print the SQL and the parameters, for the sqlite3 shell.")
  var sql = false

  @OptionGroup var common: CommonOptions

  func perform(in session: CommandSession) throws(VMCheckpointError) -> QueryOutput {
    guard let name else {
      guard !sql else {
        throw VMCheckpointError(
          .invalidArgument,
          "--sql needs the name of a query",
          hint: "see all with: vmckpt query"
        )
      }
      return .list(QueryListOutput(StoreQuery.all))
    }
    let query = try StoreQuery.named(name)
    let arguments = try query.arguments(values)
    guard !sql else {
      let store = try common.openStore(in: session)
      return .sql(
        QuerySQLOutput(
          query,
          sql: try store.sql(of: query),
          try store.resolve(arguments, of: query)
        )
      )
    }
    if query.needsFunctions { try SQLFunctionLibrary.add() }
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (result, _) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.open(at: storePath, cancellation: control.cancellation)
        .answer(query, arguments: arguments, control: control)
    }
    return .answer(QueryAnswerOutput(query, result))
  }
}

extension StoreQuery {
  /// The values of the command line by the parameters' names: those without a name go to the
  /// parameters that none is given for by name, in their order.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`.
  func arguments(_ values: [String]) throws(VMCheckpointError) -> [String: String] {
    var result: [String: String] = [:]
    var unnamed: [String] = []
    for value in values {
      // No value of any kind has an equals sign, so that it always ends a name.
      let parts = value.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2 else {
        unnamed.append(value)
        continue
      }
      guard result.updateValue(String(parts[1]), forKey: String(parts[0])) == nil else {
        throw VMCheckpointError(
          .invalidArgument,
          "parameter \(quotedName(String(parts[0]))) is given twice",
          hint: "usage: \(usage)"
        )
      }
    }
    let free = parameters.map(\.name).filter { result[$0] == nil }
    guard unnamed.count <= free.count else {
      throw VMCheckpointError(
        .invalidArgument,
        "query \(name) has only \(HumanReadable.count(parameters.count, "parameter"))",
        hint: "usage: \(usage)"
      )
    }
    for (name, value) in zip(free, unnamed) { result[name] = value }
    return result
  }
}
