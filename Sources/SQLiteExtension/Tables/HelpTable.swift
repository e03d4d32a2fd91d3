extension TableFunction {
  /// `vmckpt_help`: a row for each function. Its end is the connection's.
  static var help: TableFunction {
    TableFunction(
      help: ScalarFunction.help.help,
      columns: ["name TEXT", "kind TEXT", "call TEXT", "returns TEXT", "summary TEXT"],
      typicalRowCount: 20,
      isLifetimeHook: true
    ) { _, _ in HelpCursor() }
  }
}

private final class HelpCursor: TableCursor {
  private var index = -1

  func next() -> Bool {
    index += 1
    return index < SQLFunctions.help.count
  }

  func column(_ column: Int) -> SQLValue {
    let help = SQLFunctions.help[index]
    return switch column {
    case 0: .text(help.name)
    case 1: .text(help.kind.rawValue)
    case 2: .text(help.signature)
    case 3: .text(help.returns)
    default: .text(help.summary)
    }
  }
}
