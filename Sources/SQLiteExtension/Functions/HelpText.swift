extension ScalarFunction {
  static var help: ScalarFunction {
    ScalarFunction(
      FunctionHelp(
        "vmckpt_help",
        [],
        returns: "TEXT",
        "these functions; FROM vmckpt_help gives a row for each"
      ),
      isDeterministic: true
    ) { _, _ in .text(SQLFunctions.helpText) }
  }
}
