/// Which pages of a snapshot are absent: left out by the dump that it was saved from.
extension StoreReader {
  /// The snapshot's absent pages.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when a row is impossible or not RAM.
  package func absentPages(
    of snapshot: StoredSnapshot,
    in layout: RAMLayout
  ) throws -> AbsentPages {
    var pages = AbsentPages()
    guard try hasAbsentRanges() else { return pages }
    let statement = try statement(.absentRanges)
    defer { statement.reset() }
    try statement.bind(snapshot.id, at: 1)
    while try statement.step() {
      let run = try absentRun(statement, of: snapshot)
      // Runs that touch would be one: so there is one way only to write them.
      if let last = pages.runs.last,
        last.upperBound >= run.lowerBound || pages.runs.count == AbsentPages.maximumRunCount
      {
        throw damagedAbsentRange(run.lowerBound, of: snapshot)
      }
      pages.append(run)
    }
    if let problem = pages.problem(in: layout) {
      throw VMCheckpointError.corrupt("\(snapshot.title) is damaged: \(problem)")
    }
    return pages
  }

  /// Whether the page is absent. At most one row is read.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when that row is impossible.
  package func isAbsent(_ pfn: PFN, in snapshot: StoredSnapshot) throws -> Bool {
    try isAnyAbsent(from: pfn, through: pfn, in: snapshot)
  }

  /// Whether any of these pages is absent. At most one row is read.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when that row is impossible.
  package func isAnyAbsent(
    from first: PFN,
    through last: PFN,
    in snapshot: StoredSnapshot
  ) throws -> Bool {
    guard try hasAbsentRanges() else { return false }
    let statement = try statement(.absentRange)
    defer { statement.reset() }
    try statement.bind(snapshot.id, at: 1)
    // The last run that begins by then: those before it end before it begins.
    try statement.bind(Int64(last.rawValue), at: 2)
    return try statement.step() && absentRun(statement, of: snapshot).upperBound > first.rawValue
  }

  private func hasAbsentRanges() throws -> Bool { try has(.absentRanges) }

  /// Whether the store knows remotes, and chunks may have their data there only.
  func hasRemotes() throws -> Bool { try has(.remotes) }

  private func has(_ feature: StoreFeature) throws -> Bool {
    let statement = try statement(.features)
    defer { statement.reset() }
    while try statement.step() {
      if try statement.text(0) == feature.name { return true }
    }
    return false
  }

  private func absentRun(
    _ statement: Database.Statement,
    of snapshot: StoredSnapshot
  ) throws -> Range<UInt64> {
    let (first, count) = (try statement.integer(0), try statement.integer(1))
    let end = PFN.max.rawValue + 1
    guard first >= 0, count > 0, UInt64(first) < end, UInt64(count) <= end - UInt64(first) else {
      throw damagedAbsentRange(UInt64(clamping: first), of: snapshot)
    }
    return UInt64(first)..<(UInt64(first) + UInt64(count))
  }

  private func damagedAbsentRange(
    _ firstPFN: UInt64,
    of snapshot: StoredSnapshot
  ) -> VMCheckpointError {
    .corrupt(
      "\(snapshot.title) is damaged: the absent range at PFN \(hexString(firstPFN)) is impossible"
    )
  }
}
