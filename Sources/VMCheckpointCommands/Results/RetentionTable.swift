import VMCheckpoint

/// Which snapshots stay and why, for people: of a store, or of a remote.
struct RetentionTable {
  /// A snapshot.
  struct Row {
    var name: String
    var vm: String
    var time: String
    /// Empty: it goes.
    var reasons: [String]
  }

  var rows: [Row]
  var dryRun: Bool

  var deletedCount: Int { rows.count { $0.reasons.isEmpty } }

  /// Of how many snapshots that are dated ahead the warning has names.
  private static let shownAheadCount = 3

  /// What to say of those that are dated later than now, and stay by a rule that looks at time.
  ///
  /// - Returns: One line, however many there are; `nil`: there are none.
  static func aheadWarning(
    _ snapshots: [(name: String, aheadSeconds: Double?, reasons: [RetentionReason])]
  ) -> String? {
    let ahead = snapshots.filter {
      $0.aheadSeconds != nil && $0.reasons.contains(where: \.isOfTime)
    }
    .sorted { $0.aheadSeconds ?? 0 > $1.aheadSeconds ?? 0 }
    guard !ahead.isEmpty else { return nil }
    let shown = ahead.prefix(shownAheadCount).map {
      "\(quotedName($0.name)) by \(HumanReadable.age($0.aheadSeconds ?? 0))"
    }
    let others = ahead.count > shown.count ? ["\(ahead.count - shown.count) more"] : []
    return """
      \(ahead.count == 1 ? "1 snapshot that stays is" : "\(ahead.count) snapshots that stay are") \
      dated later than now: \((shown + others).joined(separator: ", ")); if this machine's clock is \
      wrong, set it; if another was when they were saved, rules that look at time keep them too \
      long: delete them by name
      """
  }

  /// The table, and the line with how many go and stay.
  var text: String {
    let goes = dryRun ? "would go" : "deleted"
    let table = TextTable(
      [("SNAPSHOT", .left), ("VM", .left), ("SAVED", .left), ("DONE", .left), ("WHY", .left)],
      rows: rows.map { row in
        [
          row.name, row.vm, row.time, row.reasons.isEmpty ? goes : "stays",
          row.reasons.joined(separator: ", "),
        ]
      }
    )
    return table.text() + "\n\(HumanReadable.count(UInt64(deletedCount), "snapshot")) \(goes), "
      + "\(rows.count - deletedCount) kept\n"
  }
}

extension RetentionReason {
  /// Whether the rule looks at when the snapshot was saved.
  var isOfTime: Bool {
    switch self {
    case .period, .within: true
    case .last, .tag, .parent, .lease, .newest: false
    }
  }

  /// In a few words.
  var text: String {
    switch self {
    case .last: "last"
    case .period(let period): period.rawValue
    case .within: "within"
    case .tag(let condition):
      "tag \(condition.key)" + (condition.value.map { "=\($0)" } ?? "")
    case .parent: "has children"
    case .lease(let id): "served (lease \(id))"
    case .newest: "newest of its VM"
    }
  }
}
