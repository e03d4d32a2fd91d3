import GRDB

/// Walks the pages of two snapshots side by side, by extents and digests; reads no page data.
struct PageDiff {
  var absent: PageRangeCollector
  var added: PageRangeCollector
  var zeroed: PageRangeCollector
  var changed: PageRangeCollector
  var unchangedPageCount: UInt64 = 0

  init(maximumRangeCount: Int) {
    added = PageRangeCollector(maximumRangeCount: maximumRangeCount)
    absent = added
    zeroed = added
    changed = added
  }

  mutating func run(
    _ database: Database,
    _ a: SnapshotRow,
    _ b: SnapshotRow,
    cancellation: CancellationFlag
  ) throws {
    try Self.walk(database, a, b, cancellation: cancellation) { pages, change in
      switch change {
      case .absent: absent.add(pages)
      case .added: added.add(pages)
      case .zeroed: zeroed.add(pages)
      case .changed: changed.add(pages)
      default: unchangedPageCount += pages.upperBound - pages.lowerBound
      }
    }
  }

  /// Calls `visit` for the pages that are not zero in both, in ascending order, with `absent`, `added`,
  /// `zeroed`, `changed` or `unchanged`: for absent pages in runs, for others one by one.
  ///
  /// - Throws: ``VMCheckpointError``: `corrupt` for extents that are not those that were written, or are
  ///   lost; `cancelled`.
  /// - Complexity: O(*n*) in the pages of both, and a row of digests for each extent.
  static func walk(
    _ database: Database,
    _ a: SnapshotRow,
    _ b: SnapshotRow,
    cancellation: CancellationFlag,
    _ visit: (Range<UInt64>, PageClass) -> Void
  ) throws {
    func absentPages(_ snapshot: SnapshotRow) throws -> AbsentPages {
      try snapshot.provenAbsentPages(database, in: snapshot.layout(database))
    }
    var absent = AbsentWalk(try absentPages(a).union(absentPages(b)))
    try walkStored(database, a, b, cancellation: cancellation) { pfn, change in
      if absent.skip(to: pfn, { visit($0, .absent) }) { visit(pfn..<(pfn + 1), change) }
    }
    _ = absent.skip(to: .max) { visit($0, .absent) }
  }

  /// As ``walk(_:_:_:cancellation:_:)``, but for absent pages, which count as zero.
  private static func walkStored(
    _ database: Database,
    _ a: SnapshotRow,
    _ b: SnapshotRow,
    cancellation: CancellationFlag,
    _ visit: (UInt64, PageClass) -> Void
  ) throws {
    var left = try PageCursor(database, a)
    var right = try PageCursor(database, b)
    var steps = 0
    while true {
      steps += 1
      if steps % 65536 == 0 { try cancellation.check() }
      switch (left.pfn, right.pfn) {
      case (nil, nil):
        return
      case (let pfn?, let other) where other == nil || pfn < other!:
        visit(pfn, .zeroed)
        try left.advance()
      case (let other, let pfn?) where other == nil || pfn < other!:
        visit(pfn, .added)
        try right.advance()
      case (let pfn?, _):
        let isSame = try left.location == right.location || left.digest() == right.digest()
        visit(pfn, isSame ? .unchanged : .changed)
        try left.advance()
        try right.advance()
      case (nil, _):
        return
      }
    }
  }

  /// The stored pages of a snapshot, one by one, each extent's checksum compared, and at the end their sum.
  private struct PageCursor {
    private let database: Database
    private let snapshot: SnapshotRow
    private let checksums: ExtentChecksum
    private let key: SnapshotKey
    private var extents: ExtentReader<HotStatement>
    private var digestReader: DigestBlobs
    private var tally = ExtentTally()
    private var extent: Extent?
    private var index = 0

    init(_ database: Database, _ snapshot: SnapshotRow) throws {
      self.database = database
      self.snapshot = snapshot
      checksums = try StoreSeed(database).extentChecksum
      key = checksums.key(ofSnapshot: snapshot.uuid)
      extents = try ExtentReader(database, snapshotID: snapshot.id)
      digestReader = try DigestBlobs(database)
      try nextExtent()
    }

    /// `nil` after the last page.
    var pfn: UInt64? { extent.map { $0.firstPFN + UInt64(index) } }

    var location: PageLocation? { extent?.location(at: index) }

    mutating func digest() throws -> PageDigest? {
      guard let location else { return nil }
      return try digestReader.digest(at: location)
    }

    mutating func advance() throws {
      guard let current = extent else { return }
      index += 1
      if index == Int(current.pageCount) { try nextExtent() }
    }

    private mutating func nextExtent() throws {
      index = 0
      extent = try extents.next()
      if let extent {
        tally.add(extent)
        try check(extent)
      } else {
        try tally.requireComplete(snapshot, database)
      }
    }

    private mutating func check(_ extent: Extent) throws {
      var checksum: UInt64 = 0
      for index in 0..<Int(extent.pageCount) {
        checksum &+= checksums.term(
          key,
          pfn: extent.firstPFN + UInt64(index),
          digest: try digestReader.digest(at: extent.location(at: index))
        )
      }
      guard checksum == extent.checksum else {
        throw VMCheckpointError(
          .corrupt,
          "\(snapshot.title) is damaged: at PFN \(hexString(extent.firstPFN)) "
            + Extent.wrongChecksum,
          hint: "see what is hurt with: vmckpt verify"
        )
      }
    }
  }
}
