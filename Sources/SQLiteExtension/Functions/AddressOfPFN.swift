import VMCheckpointCore

extension ScalarFunction {
  static var gpa: ScalarFunction {
    ScalarFunction(
      FunctionHelp(
        "gpa",
        ["pfn"],
        returns: "INTEGER",
        "the page's first address: pfn << 12"
      ),
      isDeterministic: true
    ) { _, arguments in
      .integer(Int64(bitPattern: try arguments[0].pfn().gpa))
    }
  }
}
