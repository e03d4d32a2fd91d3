package import VMCheckpoint

/// What `remote show` prints.
package struct RemoteShowOutput: CommandOutput, Hashable {
  /// A snapshot of a remote.
  package struct Snapshot: Codable, Hashable, Sendable {
    var name: String
    var vm: String
    @Nullable var parent: String?
    var uuid: String
    var completedAt: String
    var ramBytes: UInt64
    var storedPages: UInt64
    var packs: Int
    var deviceStates: Int
    var overlays: Int
    var tags: [String: String]
    var digest: String

    enum CodingKeys: String, CodingKey {
      case name, vm, parent, uuid
      case completedAt = "completed_at"
      case ramBytes = "ram_bytes"
      case storedPages = "stored_pages"
      case packs
      case deviceStates = "device_states"
      case overlays, tags, digest
    }
  }

  var remote: String
  var snapshots: [Snapshot]
  var warnings: [String]

  /// Whose snapshots were asked for; not in JSON.
  private var vm: String?

  enum CodingKeys: String, CodingKey {
    case remote, snapshots, warnings
  }

  /// What is printed of the snapshots of `remote`.
  ///
  /// - Parameter vm: The VM that `entries` are of; `nil`: all.
  package init(
    _ remote: RemoteRow,
    _ entries: [RemoteCatalog.Entry],
    ofVM vm: String?,
    warnings: [String]
  ) {
    self.remote = remote.name
    self.vm = vm
    self.warnings = warnings
    snapshots = entries.map { entry in
      let summary = entry.summary
      return Snapshot(
        name: summary.name,
        vm: summary.vm,
        parent: summary.parent,
        uuid: summary.uuid,
        completedAt: summary.completedAt,
        ramBytes: summary.ramByteCount,
        storedPages: summary.storedPageCount,
        packs: summary.packCount,
        deviceStates: summary.deviceStateCount,
        overlays: summary.overlayCount,
        tags: summary.tags,
        digest: summary.digest
      )
    }
  }

  package var notice: String? {
    guard snapshots.isEmpty else { return nil }
    return
      "no snapshots\(vm.map { " of the VM \(quotedName($0))" } ?? "") in the remote \(quotedName(remote))"
  }

  package var text: String {
    guard !snapshots.isEmpty else { return "" }
    return TextTable(
      [
        ("NAME", .left), ("VM", .left), ("PARENT", .left), ("COMPLETED", .left), ("RAM", .right),
        ("NONZERO", .right), ("PACKS", .right),
      ],
      rows: snapshots.map { snapshot in
        [
          snapshot.name, snapshot.vm, snapshot.parent ?? "", snapshot.completedAt,
          HumanReadable.bytes(snapshot.ramBytes), HumanReadable.pages(snapshot.storedPages),
          "\(snapshot.packs)",
        ]
      }
    ).text()
  }
}
