/// Finds exported data of a kernel whose kallsyms has functions alone (without CONFIG_KALLSYMS_ALL).
///
/// The kernel keeps a table of what modules may use, `__ksymtab`, of three distances of 4 bytes, each from its own
/// place: to the symbol, to its name, to its namespace.
struct ExportedSymbols {
  private static let names = [
    "init_task", "page_offset_base", "vmemmap_base", "vmalloc_base", "__per_cpu_offset",
    "nr_cpu_ids", "tcp_hashinfo", "net_namespace_list", "init_pid_ns", "init_uts_ns", "init_net",
    "phys_base",
  ]
  /// The image is in this distance from its tables.
  private static let reach: UInt64 = 48 << 20
  /// Names of all exported symbols are together.
  private static let namesReach: UInt64 = 1 << 20
  private static let maximumHitCount = 4096

  private let ram: any GuestRAM
  private let center: UInt64
  private let imageOffset: UInt64

  init(_ ram: any GuestRAM, around center: UInt64, imageOffset: UInt64) {
    self.ram = ram
    self.center = center
    self.imageOffset = imageOffset
  }

  /// Adds those that are found, and beyond doubt, to `symbols`.
  func add(to symbols: KernelSymbols) throws {
    var places: [UInt64: String] = [:]
    for (place, name) in try namePlaces() where symbols.address(of: name) == nil {
      places[place] = name
    }
    var found: [String: Set<UInt64>] = [:]
    for (entry, place) in try entries(naming: Set(places.keys)) {
      guard let distance = try ram.number(entry, as: Int32.self), try hasNeighbour(entry, place)
      else { continue }
      found[places[place]!, default: []].insert(entry &+ UInt64(bitPattern: Int64(distance)))
    }
    for (name, values) in found where values.count == 1 {
      symbols.add(name, values.first! &+ imageOffset)
    }
  }

  /// The first task, by its name, and because it leads its own group.
  func addFirstTask(to symbols: KernelSymbols, _ types: BTF) throws {
    guard let comm = types.field("task_struct", "comm"),
      let leader = types.field("task_struct", "group_leader")
    else { return }
    // "swapper/", or "swapper" and a zero.
    let (long, short) = (UInt64(0x2f72_6570_7061_7773), UInt64(0x0072_6570_7061_7773))
    var found: Set<UInt64> = []
    try visit { pfn, page in
      for offset in stride(from: 0, through: Page.byteCount - 8, by: 4) {
        let word = UInt64(littleEndian: page.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        guard word == long || word == short else { continue }
        let task = pfn << UInt64(Page.shift) &+ UInt64(offset) &- UInt64(comm.offset)
        let address = try ram.number(task &+ UInt64(leader.offset), as: UInt64.self)
        if address == task &+ imageOffset, found.count < 16 { found.insert(task) }
      }
    }
    if found.count == 1 { symbols.add("init_task", found.first! &+ imageOffset) }
  }

  private func visit(_ body: (UInt64, UnsafeRawPointer) throws -> Void) throws {
    let first = (center - min(center, Self.reach)) >> UInt64(Page.shift)
    let last = (center &+ Self.reach) >> UInt64(Page.shift)
    try ram.visitPages(from: first) { pfn, page in
      guard pfn <= last else { return false }
      try body(pfn, page)
      return true
    }
  }

  /// Where the names are as texts of their own.
  private func namePlaces() throws -> [(UInt64, String)] {
    let names = Self.names.map { (name: $0, bytes: Array($0.utf8) + [0]) }
    var isFirst = [Bool](repeating: false, count: 256)
    for (_, bytes) in names { isFirst[Int(bytes[0])] = true }
    var places: [(UInt64, String)] = []
    try visit { pfn, page in
      let bytes = UnsafeRawBufferPointer(start: page, count: Page.byteCount)
      for offset in 0..<(Page.byteCount - 1)
      where bytes[offset] == 0 && isFirst[Int(bytes[offset + 1])] {
        let gpa = pfn << UInt64(Page.shift) &+ UInt64(offset + 1)
        for (name, text) in names where text[0] == bytes[offset + 1] {
          let isHere =
            offset + 1 + text.count <= Page.byteCount
            ? bytes[(offset + 1)...].starts(with: text)
            : try ram.bytes(gpa, count: text.count) == text
          if isHere, places.count < Self.maximumHitCount { places.append((gpa, name)) }
        }
      }
    }
    return places
  }

  /// Entries whose second distance leads to one of these names.
  private func entries(naming names: Set<UInt64>) throws -> [(entry: UInt64, name: UInt64)] {
    guard let lowest = names.min(), let highest = names.max() else { return [] }
    var found: [(UInt64, UInt64)] = []
    try visit { pfn, page in
      for offset in stride(from: 0, to: Page.byteCount, by: 4) {
        let distance = Int32(littleEndian: page.load(fromByteOffset: offset, as: Int32.self))
        let place = pfn << UInt64(Page.shift) &+ UInt64(offset)
        let target = place &+ UInt64(bitPattern: Int64(distance))
        guard target >= lowest, target <= highest, names.contains(target), place >= 4,
          found.count < Self.maximumHitCount
        else { continue }
        found.append((place - 4, target))
      }
    }
    return found
  }

  /// Whether the entry before or after has a name too: a word that only looks like a distance has none.
  private func hasNeighbour(_ entry: UInt64, _ name: UInt64) throws -> Bool {
    for place in [entry &+ 16, entry &- 8] {
      guard let distance = try ram.number(place, as: Int32.self) else { continue }
      let target = place &+ UInt64(bitPattern: Int64(distance))
      let difference = target > name ? target - name : name - target
      guard difference > 0, difference < Self.namesReach, target > 0 else { continue }
      if try ram.number(target - 1, as: UInt8.self) == 0,
        try ram.number(target, as: UInt8.self) ?? 0 > 0x20
      {
        return true
      }
    }
    return false
  }
}
