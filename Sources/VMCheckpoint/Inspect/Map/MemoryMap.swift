/// What a page is in a ``MemoryMap``.
public enum PageClass: String, Hashable, Sendable, Codable, CaseIterable {
  /// Zero; of two snapshots, zero or no RAM in both.
  case zero
  /// Unknown, because a dump left it out; of two snapshots, in one or both.
  case absent
  /// Not zero, and no other snapshot holds its content.
  case unique
  /// Not zero, and its content is held by the parent, by no other VM.
  case sharedWithParent = "shared_with_parent"
  /// Not zero, and its content is held by other snapshots of the VM, but neither by the parent nor
  /// by another VM.
  case sharedWithinVM = "shared_within_vm"
  /// Not zero, and its content is held by another VM.
  case sharedWithOtherVMs = "shared_with_other_vms"
  /// Not zero in both snapshots, and the same.
  case unchanged
  /// Zero, or no RAM, in the first snapshot; not zero in the second.
  case added
  /// Not zero in the first snapshot; zero, or no RAM, in the second.
  case zeroed
  /// Not zero in both snapshots, and not the same.
  case changed

  /// By owner: the guest's kernel has no use for it. This and what follows is as the guest's kernel says.
  case free
  /// Memory of a process that is not of a file.
  case anonymous
  /// A page of a file: of its cached content, or of shared memory.
  case file
  /// In one of the kernel's slab caches.
  case slab
  case pageTable = "page_table"
  case kernelStack = "kernel_stack"
  /// The kernel's code and data as they were loaded.
  case kernelImage = "kernel_image"
  /// A loaded module's code and data.
  case module
  case vmalloc
  case perCPU = "per_cpu"
  /// The kernel's array of page frames.
  case pageArray = "page_array"
  /// Set aside at boot.
  case reserved
  /// Used by the kernel; for what is not known.
  case other
  /// The kernel has no entry for the page, or a dump left it out.
  case unknown

  /// The classes of a map of one snapshot; ``absent`` comes behind them where pages are absent.
  public static let ofOneSnapshot: [PageClass] = [
    .zero, .unique, .sharedWithParent, .sharedWithinVM, .sharedWithOtherVMs,
  ]

  /// The classes of a map of what changed between two; ``absent`` comes behind them where pages are absent.
  public static let ofChanges: [PageClass] = [.zero, .unchanged, .added, .zeroed, .changed]

  /// The classes of a map by owner.
  public static let ofOwners: [PageClass] = [
    .free, .anonymous, .file, .slab, .pageTable, .kernelStack, .kernelImage, .module, .vmalloc,
    .perCPU, .pageArray, .reserved, .other, .unknown,
  ]
}

/// A guest's RAM as a grid of cells of equal size, with counts of its pages by class.
public struct MemoryMap: Hashable, Sendable {
  /// An overlay's place.
  public struct OverlayMark: Hashable, Sendable {
    /// The page that the overlays cover; it is RAM.
    public var pfn: UInt64
    /// The kinds of the overlays at this PFN, the active one first.
    public var kinds: [OverlayKind]
  }

  /// Who has pages of a cell, as the guest's kernel says.
  public struct Owner: Hashable, Sendable {
    /// One of ``PageClass/ofOwners``.
    public var pageClass: PageClass
    /// A process's or slab cache's name, or a file system's type.
    public var name: String?
    /// A process's number in the guest's first namespace.
    public var pid: Int64?
    /// A file's path, as the guest's first process sees it.
    public var file: String?
    /// How many of the cell's pages.
    public var pageCount: UInt64
  }

  /// An aligned range of pages, some of which are RAM.
  public struct Cell: Hashable, Sendable {
    /// A multiple of ``MemoryMap/cellPageCount``.
    public var firstPFN: UInt64
    /// How many of its pages are RAM; not 0.
    public var ramPageCount: UInt64
    /// How many of them are of each class of ``MemoryMap/classes``, in their order.
    public var pageCounts: [UInt64]
    /// How many of its pages have overlays.
    public var overlayPageCount: Int
    /// In a map by owner, those known by name that have most of its pages, with the most first.
    public var owners: [Owner] = []
  }

  /// The snapshot; of two, the second.
  public var snapshot: String
  /// Of two, the first.
  public var base: String?
  /// The VM of the snapshot.
  public var vm: String
  /// The parent that pages are shared with, if there is one.
  public var parent: String?
  /// In ascending order of GPA; of two snapshots, the second's.
  public var regions: [MemoryRegion]
  /// What pages are told apart by.
  public var classes: [PageClass]
  /// The pages of a cell, RAM or not: a power of two.
  public var cellPageCount: UInt64
  /// The cells that have RAM, in ascending order of PFN.
  public var cells: [Cell]
  /// Of the snapshot, in ascending order of PFN; those at no RAM are left out.
  public var overlays: [OverlayMark]
  /// In a map by owner, what could not be read of the guest's kernel.
  public var note: String?

  /// Whether pages are told apart by who owns them.
  public var isByOwner: Bool { classes.first == .free }

  /// The pages of each class in the order of ``classes``, over all cells.
  public var pageCounts: [UInt64] {
    cells.reduce(into: [UInt64](repeating: 0, count: classes.count)) { sums, cell in
      for (index, count) in cell.pageCounts.enumerated() { sums[index] += count }
    }
  }
}
