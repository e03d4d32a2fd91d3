import GRDB

extension Store {
  /// How many owners of a cell are named.
  private static var ownersOfCell: Int { 6 }

  /// A snapshot's RAM as a grid, by who owns its pages: as the guest's own kernel says, of Linux 5.10 and later.
  /// Reads page data.
  ///
  /// - Parameter maximumCellCount: The most cells; they are as small as that allows.
  /// - Throws: ``VMCheckpointError``: `notFound` for the snapshot, or when no kernel that can be read is in its
  ///   RAM; `corrupt`, `locked`, `cancelled`.
  /// - Complexity: O(*n*) in the pages of RAM, of which the kernel's are read.
  public func mapByOwner(
    of reference: SnapshotReference,
    maximumCellCount: Int,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> MemoryMap {
    try withKernel(of: reference, control) { (database, snapshot, kernel) in
      let table = try FrameTable(kernel)
      let layout = try snapshot.layout(database)
      var grid = MapGrid(
        layouts: [layout],
        classCount: PageClass.ofOwners.count,
        maximumCellCount: maximumCellCount
      )
      let indexes = Self.indexes(of: PageClass.ofOwners)
      var owners = CellOwners(table, limit: Self.ownersOfCell)
      for region in layout.regions {
        let first = region.firstPFN.rawValue
        for pfn in first..<(first + region.pageCount) {
          if pfn & 0xffff == 0 { try control.cancellation.check() }
          guard let ordinal = table.ordinal(pfn) else { continue }
          grid.add(
            pfn..<(pfn + 1),
            classIndex: indexes[PageClass(table.frameClass(ordinal))]!
          )
          owners.add(ordinal, inCell: grid.cellNumber(pfn))
        }
      }
      owners.endCell()
      var map = try Self.map(
        database,
        snapshot,
        layout,
        grid,
        PageClass.ofOwners,
        base: nil,
        parent: snapshot.parentID.flatMap {
          try SnapshotCatalog.fetch(id: $0, in: database)?.name
        }
      )
      for index in map.cells.indices {
        map.cells[index].owners =
          owners.byCell[grid.cellNumber(map.cells[index].firstPFN)] ?? []
      }
      map.note = table.note
      return map
    }
  }
}

/// Who has most pages of each cell; cells come one after the other.
private struct CellOwners {
  private(set) var byCell: [UInt64: [MemoryMap.Owner]] = [:]
  private let table: FrameTable
  private let limit: Int
  private var cell: UInt64?
  /// By what distinguishes owners: a frame of the owner's, and how many.
  private var counts: [UInt64: (ordinal: Int, pageCount: UInt64)] = [:]

  init(_ table: FrameTable, limit: Int) {
    self.table = table
    self.limit = limit
  }

  mutating func add(_ ordinal: Int, inCell number: UInt64) {
    if number != cell {
      endCell()
      cell = number
    }
    guard table.frameClass(ordinal) != .free else { return }
    counts[table.ownerKey(ordinal), default: (ordinal, 0)].pageCount += 1
  }

  mutating func endCell() {
    guard let cell else { return }
    let most = counts.values.sorted { ($1.pageCount, $0.ordinal) < ($0.pageCount, $1.ordinal) }
    for entry in most where byCell[cell, default: []].count < limit {
      let owner = table.wholeOwner(entry.ordinal)
      // Of the kernel's own memory the class says all.
      guard owner.name != nil || owner.pid != nil || owner.file != nil else { continue }
      byCell[cell, default: []].append(
        MemoryMap.Owner(
          pageClass: PageClass(table.frameClass(entry.ordinal)),
          name: owner.name,
          // A file's pages are nobody's alone.
          pid: table.frameClass(entry.ordinal) == .file ? nil : owner.pid,
          file: owner.file,
          pageCount: entry.pageCount
        )
      )
    }
    counts.removeAll(keepingCapacity: true)
  }
}

extension PageClass {
  /// As the map by owner has it.
  init(_ frameClass: FrameClass) {
    self =
      switch frameClass {
      case .other: .other
      case .unknown: .unknown
      case .free: .free
      case .slab: .slab
      case .file: .file
      case .anonymous: .anonymous
      case .pageTable: .pageTable
      case .kernelImage: .kernelImage
      case .module: .module
      case .vmalloc: .vmalloc
      case .kernelStack: .kernelStack
      case .pageArray: .pageArray
      case .perCPU: .perCPU
      case .reserved: .reserved
      }
  }
}
