import VMCheckpointCore

extension ScalarFunction {
  static var pageSHA256: ScalarFunction {
    ScalarFunction(
      FunctionHelp(
        "page_sha256",
        ["blob"],
        returns: "TEXT",
        "the SHA-256 in lower-case hexadecimal, as views show digests"
      ),
      isDeterministic: true
    ) { _, arguments in
      try arguments[0].withBytes { .text(PageDigest(of: $0).description) }
    }
  }
}
