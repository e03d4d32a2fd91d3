import GRDB

extension StoreQuery {
  /// The query's parameters with the values that `texts`, or defaults, give them.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidArgument` for a value that makes no sense or is
  ///   missing, `notFound` for a snapshot or VM that is not there.
  func arguments(
    _ texts: [String: String],
    in database: Database
  ) throws -> [QueryArgument] {
    try check(texts)
    return try parameters.map { parameter in
      guard let text = texts[parameter.name] ?? parameter.defaultText else {
        throw VMCheckpointError(
          .invalidArgument,
          "query \(name) needs a value for \(parameter.name)",
          hint: "usage: \(usage)"
        )
      }
      return QueryArgument(name: parameter.name, value: try parameter.value(text, in: database))
    }
  }

  /// Checks that `texts` names no other parameters than the query has.
  private func check(_ texts: [String: String]) throws(VMCheckpointError) {
    let known = Set(parameters.map(\.name))
    guard let unknown = Set(texts.keys).subtracting(known).min() else { return }
    throw VMCheckpointError(
      .invalidArgument,
      "query \(name) has no parameter \(quotedName(unknown))",
      hint: "usage: \(usage)"
    )
  }

  /// A line that shows how to ask it: `vmckpt query page-history VM PFN`.
  public var usage: String {
    (["vmckpt query \(name)"]
      + parameters.map { parameter in
        let name = parameter.name.uppercased()
        return parameter.defaultText == nil ? name : "[\(name)]"
      }).joined(separator: " ")
  }
}

extension StoreQuery.Parameter {
  fileprivate func value(_ text: String, in database: Database) throws -> QueryValue {
    switch kind {
    case .snapshot:
      return .text(try SnapshotCatalog.resolve(SnapshotReference(text), in: database).name)
    case .vm:
      if text == "*", defaultText == "*" { return .null }
      try SnapshotCatalog.requireVM(text, in: database)
      return .text(text)
    case .count:
      guard let count = Int64(digits: text),
        (1...Int64(QueryResult.maximumRowCount)).contains(count)
      else { throw invalid(text, "expected 1 to \(QueryResult.maximumRowCount)") }
      return .integer(count)
    case .pfn:
      let number =
        text.hasPrefix("0x") ? Int64(digits: text.dropFirst(2), radix: 16) : Int64(digits: text)
      guard let number, number <= Int64(PFN.max.rawValue) else {
        throw invalid(text, "expected a page frame number, GPA / 4096, in decimal or as 0x…")
      }
      return .integer(number)
    }
  }

  private func invalid(_ text: String, _ reason: String) -> VMCheckpointError {
    VMCheckpointError(.invalidArgument, "\(name)=\(quotedName(text)) makes no sense", hint: reason)
  }
}

extension Int64 {
  /// From digits only: no sign, no space.
  fileprivate init?(digits: some StringProtocol, radix: Int = 10) {
    guard let first = digits.utf8.first, first != UInt8(ascii: "-"), first != UInt8(ascii: "+")
    else { return nil }
    self.init(digits, radix: radix)
  }
}

extension SnapshotCatalog {
  /// Checks that there is a complete snapshot of the virtual machine.
  ///
  /// - Throws: ``VMCheckpointError``: `notFound`, with names that are near.
  static func requireVM(_ vm: String, in database: Database) throws {
    if try newest(ofVM: vm, in: database) != nil { return }
    let names = try String.fetchAll(
      database,
      sql: "SELECT DISTINCT vm FROM snapshot WHERE state = 'complete' LIMIT 10000"
    )
    let near = NameSuggestion.nearest(to: String(vm.prefix(255)), among: names)
    throw VMCheckpointError(
      .notFound,
      "there is no snapshot of a VM \(quotedName(vm))",
      hint: near.isEmpty
        ? "see all with: vmckpt query vms"
        : "did you mean \(near.map(quotedName).joined(separator: " or "))?"
    )
  }
}
