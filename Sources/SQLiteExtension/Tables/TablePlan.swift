import CSQLiteExtension

/// How a table runs a query, as SQLite passes it from planning to running.
///
///     bits 0…7    which arguments are given
///     bits 8…12   which comparisons of the key column are handed over
///
/// Values come in the order of the bits.
struct TablePlan {
  var number: CInt

  private static let firstComparisonBit = 8

  func hasArgument(_ index: Int) -> Bool { number & (1 << CInt(index)) != 0 }

  mutating func addArgument(_ index: Int) { number |= 1 << CInt(index) }

  func has(_ comparison: ComparisonOperator) -> Bool {
    hasArgument(Self.firstComparisonBit + comparison.rawValue)
  }

  mutating func add(_ comparison: ComparisonOperator) {
    addArgument(Self.firstComparisonBit + comparison.rawValue)
  }

  /// The query that `values` make of the plan; `nil` when no row can match.
  func query(_ help: FunctionHelp, _ values: [OpaquePointer?]) throws -> TableQuery? {
    var next = 0
    func take(_ name: String) throws -> SQLArgument {
      guard next < values.count else { throw SQLError.misuse("\(help.name): too few values") }
      defer { next += 1 }
      return SQLArgument(value: values[next], name: "\(help.name): \(name)")
    }
    var query = TableQuery(arguments: [])
    for (index, name) in help.arguments.enumerated() {
      query.arguments.append(hasArgument(index) ? try take(name) : nil)
    }
    for comparison in ComparisonOperator.allCases where has(comparison) {
      let value = try take("comparison")
      if value.isNull { return nil }
      guard let bound = value.bound(comparison) else { continue }
      guard query.range.overlaps(bound) else { return nil }
      query.range = query.range.clamped(to: bound)
    }
    guard query.arguments.prefix(help.requiredArgumentCount).allSatisfy({ $0 != nil }) else {
      throw SQLError.misuse("too few arguments: \(help.signature)")
    }
    // As for scalar functions: nothing comes of NULL.
    for case let argument? in query.arguments.prefix(help.requiredArgumentCount)
    where argument.isNull {
      return nil
    }
    return query
  }
}

/// xBestIndex: takes the arguments, and the comparisons of the key column.
func planTable(
  _ table: UnsafeMutablePointer<sqlite3_vtab>?,
  _ information: UnsafeMutablePointer<sqlite3_index_info>?
) -> CInt {
  let object = UnsafeMutableRawPointer(table!).assumingMemoryBound(to: vmx_table.self).pointee
    .object
  let function = Unmanaged<TableInstance>.fromOpaque(object!).takeUnretainedValue().function
  let info = information!
  var argumentTerms = [Int?](repeating: nil, count: function.help.arguments.count)
  var comparisonTerms = [Int?](repeating: nil, count: ComparisonOperator.allCases.count)
  var unusableArguments: Set<Int> = []

  for term in 0..<Int(info.pointee.nConstraint) {
    let constraint = info.pointee.aConstraint[term]
    let column = Int(constraint.iColumn)
    guard let comparison = ComparisonOperator(constraint.op) else { continue }
    let argument = column - function.columns.count
    if argumentTerms.indices.contains(argument) {
      guard comparison == .equal else { continue }
      if constraint.usable == 0 {
        unusableArguments.insert(argument)
      } else {
        argumentTerms[argument] = argumentTerms[argument] ?? term
      }
    } else if argument == argumentTerms.count, function.surplusColumnCount > 0 {
      vmx_free(table!.pointee.zErrMsg)
      table!.pointee.zErrMsg = vmx_copy_string("too many arguments: \(function.help.signature)")
      return SQLITE_ERROR
    } else if column == function.keyColumn, constraint.usable != 0 {
      comparisonTerms[comparison.rawValue] = comparisonTerms[comparison.rawValue] ?? term
    }
  }

  for index in argumentTerms.indices where argumentTerms[index] == nil {
    // Another order of the join may make the argument usable.
    if unusableArguments.contains(index) { return SQLITE_CONSTRAINT }
    if index < function.help.requiredArgumentCount {
      // To look at the terms of an OR one by one SQLite asks for a plan without the arguments. It must
      // not take that plan; where it is the only one, running it says what is missing.
      info.pointee.estimatedCost = 1e99
      info.pointee.estimatedRows = 1 << 50
      return SQLITE_OK
    }
  }

  var plan = TablePlan(number: 0)
  var nextValue: CInt = 1
  for (index, term) in argumentTerms.enumerated() {
    guard let term else { continue }
    plan.addArgument(index)
    info.pointee.aConstraintUsage[term].argvIndex = nextValue
    info.pointee.aConstraintUsage[term].omit = 1
    nextValue += 1
  }
  var comparisons = ""
  for comparison in ComparisonOperator.allCases {
    guard let term = comparisonTerms[comparison.rawValue] else { continue }
    plan.add(comparison)
    // SQLite compares once more: a value may be no integer.
    info.pointee.aConstraintUsage[term].argvIndex = nextValue
    nextValue += 1
    let column = function.columns[function.keyColumn!].prefix { $0 != " " }
    comparisons += (comparisons.isEmpty ? "" : " and ") + "\(column)\(comparison.symbol)?"
  }
  info.pointee.idxNum = plan.number
  info.pointee.idxStr = vmx_copy_string(comparisons.isEmpty ? "all rows" : comparisons)
  info.pointee.needToFreeIdxStr = 1
  estimate(plan, function, info)
  consumeOrder(function, info)
  return SQLITE_OK
}

private func estimate(
  _ plan: TablePlan,
  _ function: TableFunction,
  _ info: UnsafeMutablePointer<sqlite3_index_info>
) {
  var rowCount = function.typicalRowCount
  if plan.has(.equal), function.isKeyUnique {
    rowCount = 1
    info.pointee.idxFlags |= SQLITE_INDEX_SCAN_UNIQUE
  } else if plan.has(.equal) {
    rowCount = max(rowCount / 64, 1)
  } else {
    let hasLower = plan.has(.greater) || plan.has(.greaterOrEqual)
    let hasUpper = plan.has(.less) || plan.has(.lessOrEqual)
    // As SQLite guesses for ranges of an index: a quarter for each bound.
    if hasLower { rowCount = max(rowCount / 4, 1) }
    if hasUpper { rowCount = max(rowCount / 4, 1) }
    if hasLower && hasUpper { rowCount = max(rowCount / 4, 1) }
  }
  info.pointee.estimatedRows = rowCount
  info.pointee.estimatedCost = Double(rowCount) * 2 + 20
}

private func consumeOrder(
  _ function: TableFunction,
  _ info: UnsafeMutablePointer<sqlite3_index_info>
) {
  guard let keyColumn = function.keyColumn, info.pointee.nOrderBy == 1 else { return }
  let order = info.pointee.aOrderBy[0]
  if Int(order.iColumn) == keyColumn, order.desc == 0 { info.pointee.orderByConsumed = 1 }
}
