import VMCheckpointCore

extension ScalarFunction {
  static var pageData: ScalarFunction {
    ScalarFunction(
      FunctionHelp(
        "page_data",
        ["snapshot", "pfn"],
        returns: "BLOB",
        "the page's 4096 bytes as bare RAM, checked by their SHA-256; NULL where there is no RAM, or the page is absent"
      )
    ) { connection, arguments in
      let snapshot = try connection.snapshot(SnapshotSelector(arguments[0]))
      let pfn = try arguments[1].pfn()
      guard try connection.reader.isRAM(pfn, in: snapshot) else { return .null }
      return try connection.reader.withPage(at: pfn, of: snapshot) { page in
        if let page { return .blob(copying: page) }
        return try connection.reader.isAbsent(pfn, in: snapshot)
          ? .null : .blob(PageContents.zero.bytes)
      }
    }
  }
}
