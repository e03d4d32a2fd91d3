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
