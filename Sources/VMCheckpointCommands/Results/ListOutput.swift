package import VMCheckpoint

/// What `list` prints.
package struct ListOutput: CommandOutput, Hashable {
  var snapshots: [SummaryOutput]

  /// Printed to standard error when there is nothing to list.
  package var notice: String?

  enum CodingKeys: CodingKey {
    case snapshots
  }

  /// What is printed of `snapshots`.
  package init(_ snapshots: [SnapshotSummary], storePath: String, isFiltered: Bool) {
    self.snapshots = snapshots.map(SummaryOutput.init)
    if snapshots.isEmpty {
      notice =
        isFiltered
        ? "no snapshot in \(quotedName(storePath)) matches"
        : "no snapshots in \(quotedName(storePath))"
    }
  }

  package var text: String {
    guard !snapshots.isEmpty else { return "" }
    return TextTable(
      [
        ("NAME", .left), ("VM", .left), ("PARENT", .left), ("COMPLETED", .left),
        ("RAM", .right), ("NONZERO", .right), ("NEW", .right), ("STORED", .right),
        ("OVERLAYS", .right), ("TAGS", .left),
      ],
      rows: snapshots.map { snapshot in
        [
          snapshot.name, snapshot.vm, snapshot.parent ?? "", snapshot.completedAt,
          HumanReadable.bytes(snapshot.ramBytes), HumanReadable.pages(snapshot.storedPages),
          HumanReadable.pages(snapshot.newPages),
          HumanReadable.bytes(snapshot.newStoredBytes), "\(snapshot.overlayCount)",
          snapshot.tagText,
        ]
      }
    ).text()
  }
}
