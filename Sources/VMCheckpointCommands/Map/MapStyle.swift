import VMCheckpoint

/// A colour of red, green and blue.
struct MapColour: Hashable {
  var red: UInt8
  var green: UInt8
  var blue: UInt8

  init(_ rgb: UInt32) {
    red = UInt8(truncatingIfNeeded: rgb >> 16)
    green = UInt8(truncatingIfNeeded: rgb >> 8)
    blue = UInt8(truncatingIfNeeded: rgb)
  }

  /// `#rrggbb`.
  var hex: String {
    "#"
      + [red, green, blue].map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  /// This colour over `ground`, with `part` of 0 (only the ground) to `whole` (only this colour).
  func over(_ ground: MapColour, part: Int, of whole: Int) -> MapColour {
    func mix(_ own: UInt8, _ other: UInt8) -> UInt8 {
      UInt8((Int(own) * part + Int(other) * (whole - part)) / whole)
    }
    var result = self
    result.red = mix(red, ground.red)
    result.green = mix(green, ground.green)
    result.blue = mix(blue, ground.blue)
    return result
  }

  static let paper = MapColour(0xffffff)
  static let ink = MapColour(0x202428)
  static let mark = MapColour(0x000000)
}

extension PageClass {
  /// For legends.
  var title: String {
    switch self {
    case .zero: "zero"
    case .absent: "absent"
    case .unique: "unique"
    case .sharedWithParent: "shared with the parent"
    case .sharedWithinVM: "shared within the VM"
    case .sharedWithOtherVMs: "shared with other VMs"
    case .unchanged: "unchanged"
    case .added: "added"
    case .zeroed: "zeroed"
    case .changed: "changed"
    case .free: "free"
    case .anonymous: "anonymous"
    case .file: "file"
    case .slab: "slab"
    case .pageTable: "page table"
    case .kernelStack: "kernel stack"
    case .kernelImage: "kernel image"
    case .module: "module"
    case .vmalloc: "vmalloc"
    case .perCPU: "per-CPU"
    case .pageArray: "page array"
    case .reserved: "reserved"
    case .other: "other"
    case .unknown: "unknown"
    }
  }

  /// Hues that people with colour-blindness tell apart too (Okabe and Ito's).
  var colour: MapColour {
    switch self {
    case .zero: MapColour(0xe9edf0)
    case .absent: MapColour(0xf0e442)
    case .unique: MapColour(0x0072b2)
    case .sharedWithParent, .added: MapColour(0x009e73)
    case .sharedWithinVM, .zeroed: MapColour(0xcc79a7)
    case .sharedWithOtherVMs, .changed: MapColour(0xd55e00)
    case .unchanged: MapColour(0x8a979e)
    // Of owners the large classes have Okabe and Ito's hues, and what is the kernel's own alone purples.
    case .free: MapColour(0xe9edf0)
    case .anonymous: MapColour(0x0072b2)
    case .file: MapColour(0x009e73)
    case .slab: MapColour(0xd55e00)
    case .pageTable: MapColour(0xf0e442)
    case .kernelStack: MapColour(0x56b4e9)
    case .kernelImage: MapColour(0xcc79a7)
    case .module: MapColour(0x9a4a77)
    case .vmalloc: MapColour(0xe69f00)
    case .perCPU: MapColour(0x6a5acd)
    case .pageArray: MapColour(0xa1866f)
    case .reserved: MapColour(0x8a979e)
    case .other: MapColour(0x444c52)
    case .unknown: MapColour(0x7f1d1d)
    }
  }

  /// For terminals; told apart without colour.
  var character: Character {
    switch self {
    case .zero: "·"
    case .absent: "?"
    case .unique, .changed: "█"
    case .sharedWithParent, .unchanged: "░"
    case .sharedWithinVM, .zeroed: "▒"
    case .sharedWithOtherVMs, .added: "▓"
    // More classes than shades: letters, of which the legend says what they are.
    case .free: "·"
    case .anonymous: "a"
    case .file: "f"
    case .slab: "s"
    case .pageTable: "t"
    case .kernelStack: "K"
    case .kernelImage: "k"
    case .module: "m"
    case .vmalloc: "v"
    case .perCPU: "c"
    case .pageArray: "p"
    case .reserved: "r"
    case .other: "o"
    case .unknown: "?"
    }
  }

  /// The parameter of the terminal's colour (ECMA-48, SGR).
  var terminalColour: Int {
    switch self {
    case .zero: 90
    case .absent: 33
    case .unique: 34
    case .sharedWithParent, .added: 32
    case .sharedWithinVM, .zeroed: 35
    case .sharedWithOtherVMs, .changed: 31
    case .unchanged: 37
    case .free, .reserved: 90
    case .anonymous: 34
    case .file: 32
    case .slab: 31
    case .pageTable, .vmalloc: 33
    case .kernelStack: 36
    case .kernelImage, .module, .perCPU: 35
    case .pageArray, .other: 37
    case .unknown: 91
    }
  }

  /// Whether a cell with such pages alone is empty.
  fileprivate var isGround: Bool { self == .zero || self == .free }

  /// Whether a few such pages are what one looks for, whatever else is in the cell.
  fileprivate var isChange: Bool { [.added, .zeroed, .changed].contains(self) }
}

/// What a cell shows.
struct CellLook: Hashable {
  /// How many levels of a colour show how much of a cell is of its class. Few, so that a picture
  /// has a small palette.
  static let levelCount = 8

  /// The class that most of the cell's pages have, not counting zero and free pages, and unchanged ones only
  /// where nothing changed.
  var pageClass: PageClass
  /// 1 to ``levelCount``: how many of the cell's pages are not zero or free or, where some changed, changed.
  var level: Int

  init(classes: [PageClass], pageCounts: [UInt64], ramPageCount: UInt64) {
    let counts = zip(classes, pageCounts).filter { !$0.0.isGround && $0.1 > 0 }
    let changes = counts.filter { $0.0.isChange }
    let shown = changes.isEmpty ? counts : changes
    guard let most = shown.max(by: { $0.1 < $1.1 }) else {
      pageClass = classes.first { $0.isGround } ?? .zero
      level = Self.levelCount
      return
    }
    pageClass = most.0
    let share = Double(shown.reduce(0) { $0 + $1.1 }) / Double(max(1, ramPageCount))
    level = max(
      1,
      Int(min(Double(Self.levelCount), (share * Double(Self.levelCount)).rounded(.up)))
    )
  }

  /// Even the lowest level differs visibly from zero pages.
  var colour: MapColour {
    guard !pageClass.isGround else { return pageClass.colour }
    let whole = Self.levelCount + 4
    return pageClass.colour.over(PageClass.zero.colour, part: level + 4, of: whole)
  }
}
