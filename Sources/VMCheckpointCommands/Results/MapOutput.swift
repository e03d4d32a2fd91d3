import VMCheckpoint

/// What pages are told apart by in a map.
enum MapBasis: String, Codable, CaseIterable, Sendable {
  /// By whether they are zero, and who else holds their content or, of two snapshots, what changed.
  case content
  /// By who owns them, as the guest's kernel says.
  case owner
}

/// What `map` prints.
struct MapOutput: CommandOutput, Hashable {
  struct Region: Codable, Hashable, Sendable {
    var gpa: UInt64
    var bytes: UInt64
    var name: String
  }

  struct Cell: Codable, Hashable, Sendable {
    var firstPFN: UInt64
    var ramPages: UInt64
    /// By class.
    var pages: [String: UInt64]
    var overlayPages: Int
    /// By owner: who has most of it.
    @Nullable var owners: [Owner]?

    enum CodingKeys: String, CodingKey {
      case firstPFN = "first_pfn"
      case ramPages = "ram_pages"
      case pages
      case overlayPages = "overlay_pages"
      case owners
    }
  }

  struct Owner: Codable, Hashable, Sendable {
    var pageClass: PageClass
    @Nullable var name: String?
    @Nullable var pid: Int64?
    @Nullable var file: String?
    var pageCount: UInt64

    enum CodingKeys: String, CodingKey {
      case pageClass = "class"
      case name, pid, file
      case pageCount = "page_count"
    }
  }

  struct Overlay: Codable, Hashable, Sendable {
    var pfn: UInt64
    /// The active one first.
    var kinds: [OverlayKind]
  }

  var by: MapBasis
  var snapshot: String
  @Nullable var base: String?
  var vm: String
  @Nullable var parent: String?
  /// Where the picture was written.
  @Nullable var path: String?
  var cellPages: UInt64
  /// Pages by class.
  var classes: [String: UInt64]
  var regions: [Region]
  var cells: [Cell]
  var overlays: [Overlay]
  /// By owner: what could not be read of the guest's kernel.
  @Nullable var note: String?

  /// Whether the text may have colours; no part of the result.
  var usesColour = false

  enum CodingKeys: String, CodingKey {
    case by, snapshot, base, vm, parent, path
    case cellPages = "cell_pages"
    case classes, regions, cells, overlays, note
  }

  init(_ map: MemoryMap, path: String?, usesColour: Bool) {
    func byClass(_ counts: [UInt64]) -> [String: UInt64] {
      Dictionary(uniqueKeysWithValues: zip(map.classes.map(\.rawValue), counts))
    }
    by = map.isByOwner ? .owner : .content
    note = map.note
    snapshot = map.snapshot
    base = map.base
    vm = map.vm
    parent = map.parent
    self.path = path
    cellPages = map.cellPageCount
    classes = byClass(map.pageCounts)
    regions = map.regions.map { Region(gpa: $0.gpa, bytes: $0.byteCount, name: $0.name) }
    cells = map.cells.map {
      Cell(
        firstPFN: $0.firstPFN,
        ramPages: $0.ramPageCount,
        pages: byClass($0.pageCounts),
        overlayPages: $0.overlayPageCount,
        owners: map.isByOwner ? $0.owners.map(Owner.init) : nil
      )
    }
    overlays = map.overlays.map { Overlay(pfn: $0.pfn, kinds: $0.kinds) }
    self.usesColour = usesColour
  }

  /// In the order of the library, which objects do not keep.
  var orderedClasses: [PageClass] {
    by == .owner
      ? PageClass.ofOwners
      : (base == nil ? PageClass.ofOneSnapshot : PageClass.ofChanges)
        + (classes[PageClass.absent.rawValue] == nil ? [] : [.absent])
  }

  var notice: String? {
    note == nil ? nil : "not all of the guest's kernel could be read: see --json"
  }

  var text: String {
    let map = MapText(output: self, usesColour: usesColour)
    return path.map { "Wrote \(printable($0))\n\(map.legend)" } ?? map.text
  }
}

extension MapOutput.Owner {
  fileprivate init(_ owner: MemoryMap.Owner) {
    self.init(
      pageClass: owner.pageClass,
      name: owner.name,
      pid: owner.pid,
      file: owner.file,
      pageCount: owner.pageCount
    )
  }
}
