package import VMCheckpoint

/// What `diff` prints.
package struct DiffOutput: CommandOutput, Hashable {
  /// The pages of one class.
  struct Pages: Codable, Hashable, Sendable {
    var pageCount: UInt64
    var rangeCount: UInt64
    /// At most as many as were asked for.
    var ranges: [PageRangeOutput]

    enum CodingKeys: String, CodingKey {
      case pageCount = "page_count"
      case rangeCount = "range_count"
      case ranges
    }

    init(_ changes: PageChanges) {
      pageCount = changes.pageCount
      rangeCount = changes.rangeCount
      ranges = changes.ranges.map(PageRangeOutput.init)
    }
  }

  struct Overlay: Codable, Hashable, Sendable {
    var change: ChangeKind
    var pfn: UInt64
    var kind: OverlayKind
    var vp: UInt32
  }

  struct DeviceState: Codable, Hashable, Sendable {
    var change: ChangeKind
    var name: String
  }

  struct Region: Codable, Hashable, Sendable {
    var change: ChangeKind
    var gpa: UInt64
    var bytes: UInt64
    var fileOffset: UInt64
    var name: String

    enum CodingKeys: String, CodingKey {
      case change, gpa, bytes
      case fileOffset = "file_offset"
      case name
    }
  }

  /// Whose pages changed, as far as the guest's kernel says.
  struct Owner: Codable, Hashable, Sendable {
    /// What the kernel uses the pages for; `null`: not RAM in the second snapshot.
    @Nullable var pageClass: String?
    @Nullable var pid: Int64?
    /// A process's name, a slab cache, a file system.
    @Nullable var name: String?
    @Nullable var file: String?
    var pageCount: UInt64
    var differentBytes: UInt64

    enum CodingKeys: String, CodingKey {
      case pageClass = "class"
      case pid, name, file
      case pageCount = "page_count"
      case differentBytes = "different_bytes"
    }
  }

  struct GuestOSID: Codable, Hashable, Sendable {
    @Nullable var a: String?
    @Nullable var b: String?
  }

  var a: String
  var b: String
  var identical: Bool
  var absent: Pages
  var added: Pages
  var zeroed: Pages
  var changed: Pages
  var unchangedPageCount: UInt64
  var overlays: [Overlay]
  var deviceStates: [DeviceState]
  var memoryRegions: [Region]
  /// `null`: both have the same.
  @Nullable var guestOSID: GuestOSID?
  /// By descending number of pages, at most as many as were asked for; `null`: not asked for.
  @Nullable var owners: [Owner]?
  @Nullable var ownerCount: Int?
  var warnings: [String]

  enum CodingKeys: String, CodingKey {
    case a, b, identical, absent, added, zeroed, changed
    case unchangedPageCount = "unchanged_page_count"
    case overlays
    case deviceStates = "device_states"
    case memoryRegions = "memory_regions"
    case guestOSID = "guest_os_id"
    case owners
    case ownerCount = "owner_count"
    case warnings
  }

  /// What is printed of `diff`.
  ///
  /// - Parameters:
  ///   - owners: The answer to the query `changed-owners`.
  ///   - maximumOwnerCount: So many of them are listed.
  package init(
    _ diff: SnapshotDiff,
    owners: QueryResult? = nil,
    maximumOwnerCount: Int = .max,
    warnings: [String]
  ) {
    a = diff.a
    b = diff.b
    identical = diff.isIdentical
    absent = Pages(diff.absent)
    added = Pages(diff.added)
    zeroed = Pages(diff.zeroed)
    changed = Pages(diff.changed)
    unchangedPageCount = diff.unchangedPageCount
    overlays = diff.overlays.map {
      Overlay(change: $0.change, pfn: $0.pfn, kind: $0.kind, vp: $0.vp)
    }
    deviceStates = diff.deviceStates.map { DeviceState(change: $0.change, name: $0.name) }
    memoryRegions = diff.regions.map {
      Region(
        change: $0.change,
        gpa: $0.region.gpa,
        bytes: $0.region.byteCount,
        fileOffset: $0.region.fileOffset,
        name: $0.region.name
      )
    }
    guestOSID = diff.guestOSID.map { GuestOSID(a: $0.a, b: $0.b) }
    self.owners = owners?.rows.prefix(maximumOwnerCount).map { Owner($0) }
    ownerCount = owners?.rows.count
    self.warnings = warnings
  }
}

extension DiffOutput.Owner {
  /// - Parameter row: Of the query `changed-owners`.
  fileprivate init(_ row: [QueryValue]) {
    func text(_ index: Int) -> String? {
      if case .text(let text) = row[index] { text } else { nil }
    }
    func number(_ index: Int) -> Int64? {
      if case .integer(let number) = row[index] { number } else { nil }
    }
    self.init(
      pageClass: text(0),
      pid: number(1),
      name: text(2),
      file: text(3),
      pageCount: UInt64(clamping: number(4) ?? 0),
      differentBytes: UInt64(clamping: number(5) ?? 0)
    )
  }
}
