import VMCheckpointCore

extension ScalarFunction {
  static var pageView: ScalarFunction {
    ScalarFunction(
      FunctionHelp(
        "page_view",
        ["snapshot", "pfn"],
        returns: "BLOB",
        "the page as the guest sees it, with its active overlay; NULL where there is no RAM, or it is absent"
      )
    ) { connection, arguments in
      let snapshot = try connection.snapshot(SnapshotSelector(arguments[0]))
      let pfn = try arguments[1].pfn()
      guard try connection.reader.isRAM(pfn, in: snapshot) else { return .null }
      // Under a baked overlay RAM has its bytes, as the guest saw them.
      if let (overlay, isBaked) = try connection.reader.activeOverlay(at: pfn, of: snapshot),
        !isBaked
      {
        return .blob(overlay.contents().bytes)
      }
      guard try !connection.reader.isAbsent(pfn, in: snapshot) else { return .null }
      return try connection.reader.withPage(at: pfn, of: snapshot) {
        $0.map { .blob(copying: $0) } ?? .blob(PageContents.zero.bytes)
      }
    }
  }
}
