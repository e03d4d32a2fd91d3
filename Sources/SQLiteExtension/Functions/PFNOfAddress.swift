import VMCheckpointCore

extension ScalarFunction {
  static var pfn: ScalarFunction {
    ScalarFunction(
      FunctionHelp(
        "pfn",
        ["gpa"],
        returns: "INTEGER",
        "the page frame number: gpa >> 12"
      ),
      isDeterministic: true
    ) { _, arguments in
      .integer(Int64(PFN(gpa: try arguments[0].bits()).rawValue))
    }
  }
}
