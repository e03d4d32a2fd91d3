import GRDB

extension Store {
  /// A snapshot's RAM as a grid: zero pages, and who else holds the others. Reads no page data.
  ///
  /// - Parameter maximumCellCount: The most cells; they are as small as that allows.
  /// - Throws: ``VMCheckpointError``: `notFound`, `corrupt`, `cancelled`.
  /// - Complexity: O(*n*) in the extents of all snapshots.
  public func map(
    of reference: SnapshotReference,
    maximumCellCount: Int,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> MemoryMap {
    try readInterruptibly(control: control) { database in
      let snapshot = try SnapshotCatalog.resolve(reference, in: database)
      let layout = try snapshot.layout(database)
      let absent = try snapshot.provenAbsentPages(database, in: layout)
      let classes = PageClass.ofOneSnapshot + (absent.isEmpty ? [] : [.absent])
      var grid = MapGrid(
        layouts: [layout],
        classCount: classes.count,
        maximumCellCount: maximumCellCount
      )
      let sharing = try ContentSharing(database, snapshot, cancellation: control.cancellation)
      let indexes = Self.indexes(of: classes)
      var tally = ExtentTally()
      var absentWalk = AbsentWalk(absent)
      func addAbsent(through pfn: UInt64) {
        _ = absentWalk.skip(to: pfn) { grid.add($0, classIndex: indexes[.absent]!) }
      }
      try ContentSharing.forEachExtent(database, snapshot.id, control.cancellation) { extent in
        tally.add(extent)
        let isRAM = [extent.firstPFN, extent.endPFN - 1].allSatisfy {
          layout.contains(PFN(unchecked: $0))
        }
        guard isRAM else { throw Extent.damaged(firstPFN: Int64(extent.firstPFN)) }
        addAbsent(through: extent.firstPFN)
        sharing.forEachPage(of: extent) { pfn, pageClass in
          grid.add(pfn..<(pfn + 1), classIndex: indexes[pageClass]!)
        }
      }
      addAbsent(through: .max)
      try tally.requireComplete(snapshot, database)
      let parent = try snapshot.parentID.flatMap { try SnapshotCatalog.fetch(id: $0, in: database) }
      return try Self.map(
        database,
        snapshot,
        layout,
        grid,
        classes,
        base: nil,
        parent: parent?.name
      )
    }
  }

  /// What is different in snapshot `b` as against `a`, as a grid. Reads no page data.
  ///
  /// - Parameter maximumCellCount: The most cells; they are as small as that allows.
  /// - Throws: ``VMCheckpointError``: `notFound`, `corrupt`, `cancelled`.
  public func map(
    from a: SnapshotReference,
    to b: SnapshotReference,
    maximumCellCount: Int,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> MemoryMap {
    try readInterruptibly(control: control) { database in
      let left = try SnapshotCatalog.resolve(a, in: database)
      let right = try SnapshotCatalog.resolve(b, in: database)
      let layout = try right.layout(database)
      let leftLayout = try left.layout(database)
      let hasAbsentPages =
        try !left.provenAbsentPages(database, in: leftLayout).isEmpty
        || !right.provenAbsentPages(database, in: layout).isEmpty
      let classes = PageClass.ofChanges + (hasAbsentPages ? [.absent] : [])
      var grid = MapGrid(
        layouts: [leftLayout, layout],
        classCount: classes.count,
        maximumCellCount: maximumCellCount
      )
      let indexes = Self.indexes(of: classes)
      try PageDiff.walk(database, left, right, cancellation: control.cancellation) {
        grid.add($0, classIndex: indexes[$1]!)
      }
      let parent = try right.parentID.flatMap { try SnapshotCatalog.fetch(id: $0, in: database) }
      return try Self.map(
        database,
        right,
        layout,
        grid,
        classes,
        base: left.name,
        parent: parent?.name
      )
    }
  }

  static func indexes(of classes: [PageClass]) -> [PageClass: Int] {
    Dictionary(uniqueKeysWithValues: classes.enumerated().map { ($1, $0) })
  }

  static func map(
    _ database: Database,
    _ snapshot: SnapshotRow,
    _ layout: RAMLayout,
    _ grid: MapGrid,
    _ classes: [PageClass],
    base: String?,
    parent: String?
  ) throws -> MemoryMap {
    let overlays = try overlayMarks(database, snapshot).filter { grid.isRAM($0.pfn) }
    return MemoryMap(
      snapshot: snapshot.name,
      base: base,
      vm: snapshot.vm,
      parent: parent,
      regions: layout.regions,
      classes: classes,
      cellPageCount: grid.cellPageCount,
      cells: grid.cells(overlays: overlays),
      overlays: overlays
    )
  }

  /// Where the snapshot has overlays, without their contents.
  private static func overlayMarks(
    _ database: Database,
    _ snapshot: SnapshotRow
  ) throws -> [MemoryMap.OverlayMark] {
    let rows = try Row.fetchAll(
      database,
      sql: """
        SELECT o.pfn, o.kind
          FROM overlay o JOIN overlay_kind k ON k.kind = o.kind
         WHERE o.snapshot_id = ? ORDER BY o.pfn, k.priority, o.vp
         LIMIT \(OverlayRow.maximumCount + 1)
        """,
      arguments: [snapshot.id]
    )
    guard rows.count <= OverlayRow.maximumCount else {
      throw VMCheckpointError(.corrupt, "\(snapshot.title) has too many overlays")
    }
    var marks: [MemoryMap.OverlayMark] = []
    for row in rows {
      let pfn = UInt64(bitPattern: try row.value("pfn") as Int64)
      guard let kind = OverlayKind(rawValue: try row.value("kind")) else {
        throw VMCheckpointError(
          .corrupt,
          "\(snapshot.title) is damaged: it has an overlay of an impossible kind",
          hint: "see what is hurt with: vmckpt verify"
        )
      }
      if marks.last?.pfn == pfn {
        marks[marks.count - 1].kinds.append(kind)
      } else {
        marks.append(MemoryMap.OverlayMark(pfn: pfn, kinds: [kind]))
      }
    }
    return marks
  }
}

extension Store {
  /// Writes a small file of the caller's beside the store: mode 0600, complete under its name or not
  /// there.
  ///
  /// - Throws: ``VMCheckpointError``: `cannotCreate`, also for the store's own files;
  ///   `permissionDenied`, `inputOutput`.
  package func writeFile(
    _ bytes: [UInt8],
    to path: String,
    overwriting: Bool
  ) throws(VMCheckpointError) {
    try requireNotStore(path)
    let file = try OutputFile(path: path, overwriting: overwriting)
    try translatingDatabaseErrors(storePath: self.path) {
      try bytes.withUnsafeBytes { try file.write($0, at: 0) }
    }
    try file.commit()
  }
}
