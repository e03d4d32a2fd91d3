extension StoreFeature {
  /// Snapshots with absent pages: the table `absent_range`. Who does not know it would take them for zero.
  package static let absentRanges = StoreFeature(name: "absent-ranges", isNeededByReaders: true)

  /// Snapshots whose overlays were found by the save itself: the table `overlay_origin`. Readers do without it.
  package static let overlayOrigins = StoreFeature(
    name: "overlay-origins",
    isNeededByReaders: false
  )

  /// Leases of page servers: the table `lease`. Who does not know it would delete what running VMs need.
  package static let leases = StoreFeature(name: "leases", isNeededByReaders: false)

  /// Notes of what was verified: the tables `verification` and `verification_gap`. Readers do without them.
  package static let verifications = StoreFeature(name: "verifications", isNeededByReaders: false)

  /// Recordings of what VMs touch first: the tables `working_set` and `working_set_run`. Readers do without them.
  package static let workingSets = StoreFeature(name: "working-sets", isNeededByReaders: false)

  /// Remotes, and chunks whose data is only there: the tables `remote`, `remote_pack`, `chunk_place`,
  /// `remote_snapshot` and `remote_object`. Who does not know it would take such chunks for damaged ones.
  package static let remotes = StoreFeature(name: "remotes", isNeededByReaders: true)

  /// The features that this program knows: those that bring a table, and overlay kinds that came after version 1.
  package static var known: Set<String> {
    Set(OverlayKind.allCases.compactMap(\.feature?.name) + withTables.map(\.name))
  }

  /// The features that bring tables.
  package static let withTables = [
    absentRanges, overlayOrigins, leases, remotes, verifications, workingSets,
  ]

  /// The tables that a store with the feature must have.
  package var tables: [String] {
    switch self {
    case .absentRanges: ["absent_range"]
    case .overlayOrigins: ["overlay_origin"]
    case .leases: ["lease"]
    case .verifications: ["verification", "verification_gap"]
    case .workingSets: ["working_set", "working_set_run"]
    case .remotes: ["remote", "remote_pack", "chunk_place", "remote_snapshot", "remote_object"]
    default: []
    }
  }

  /// The first feature that keeps this program from reading, or from writing, if one does.
  ///
  /// - Parameter toWrite: Whether the store is to be written.
  package static func unknown(among features: [StoreFeature], toWrite: Bool) -> StoreFeature? {
    let known = known
    return features.first { !known.contains($0.name) && (toWrite || $0.isNeededByReaders) }
  }
}
