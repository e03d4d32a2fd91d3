/// A part of a process's virtual memory.
package struct GuestMapping {
  package var pid: Int64
  package var start: UInt64?
  package var end: UInt64?
  /// As in /proc: `rwxp`, or `s` at the end where others see what is written.
  package var permissions: String?
  /// The first page's number in the file; `nil` where there is no file.
  package var pageOffset: UInt64?
  /// The file's path, or what /proc calls the mapping, such as `[heap]`; `nil` where it has no name.
  package var path: String?
  package var note: String?
}

extension GuestKernel {
  private static let mappingLimit = 65_536
  private static let mapleDepthLimit = 32
  private static let mapleNodeByteCount = 256
  /// VM_MAYSHARE: what may not be written to a shared file loses VM_SHARED.
  private static let mayBeShared: UInt64 = 0x80

  /// The mappings of all processes, by ascending PID and address.
  ///
  /// - Parameter pids: Others are left out.
  package func mappings(pids: ClosedRange<Int64> = .min ... .max) throws -> [GuestMapping] {
    let leaders = try leaders(pids: pids)
    let listNotes = takeNotes()
    var mappings: [GuestMapping] = []
    var paths: [UInt64: String] = [:]
    for (pid, task) in leaders {
      var areas: [UInt64] = []
      var memory: UInt64 = 0
      do {
        memory = try u64(task, "task_struct", "mm")
        guard memory != 0 else { continue }
        areas = try self.areas(ofMemory: memory)
        try checkCount(areas.count, ofMemory: memory)
      } catch let fault as GuestFault {
        note("the memory: \(fault)")
      }
      if let notes = takeNotes() { mappings.append(GuestMapping(pid: pid, note: notes)) }
      for area in areas {
        var mapping = GuestMapping(pid: pid)
        try attempt("mapping at \(hexString(area))") {
          try fill(&mapping, at: area, ofMemory: memory, &paths)
        }
        mapping.note = takeNotes()
        mappings.append(mapping)
      }
    }
    if let listNotes { note(listNotes) }
    return mappings
  }

  /// The kernel counts a process's mappings: notes where others were found.
  private func checkCount(_ count: Int, ofMemory memory: UInt64) throws {
    guard has("mm_struct", "map_count") else { return }
    let expected = try u64(memory, "mm_struct", "map_count") & 0xffff_ffff
    if UInt64(count) != expected {
      note("the process has \(expected) mappings, and \(count) were found")
    }
  }

  private func fill(
    _ mapping: inout GuestMapping,
    at area: UInt64,
    ofMemory memory: UInt64,
    _ paths: inout [UInt64: String]
  ) throws {
    let start = try u64(area, "vm_area_struct", "vm_start")
    let end = try u64(area, "vm_area_struct", "vm_end")
    guard start < end, end <= 1 << 56, (start | end) & UInt64(Page.byteCount - 1) == 0 else {
      throw GuestFault.broken("it cannot go from \(hexString(start)) to \(hexString(end))")
    }
    (mapping.start, mapping.end) = (start, end)
    let flags = try u64(area, "vm_area_struct", "vm_flags")
    var permissions = ""
    for (bit, letter) in zip([UInt64(1), 2, 4], "rwx") {
      permissions.append(flags & bit != 0 ? letter : "-")
    }
    mapping.permissions = permissions + (flags & Self.mayBeShared != 0 ? "s" : "p")
    let file = try u64(area, "vm_area_struct", "vm_file")
    if file != 0 {
      mapping.pageOffset = try u64(area, "vm_area_struct", "vm_pgoff")
      if paths[file] == nil { paths[file] = try shownPath(ofFile: file) }
      mapping.path = paths[file]
    } else {
      mapping.path = try nameOfAnonymousMapping(area, start..<end, ofMemory: memory)
    }
  }

  /// What /proc shows in brackets.
  private func nameOfAnonymousMapping(
    _ area: UInt64,
    _ range: Range<UInt64>,
    ofMemory memory: UInt64
  ) throws -> String? {
    let operations = try u64(area, "vm_area_struct", "vm_ops")
    if operations != 0 {
      let function = try u64(operations, "vm_operations_struct", "name")
      if function != 0, symbols.name(at: function) == "special_mapping_name" {
        let special = try u64(area, "vm_area_struct", "vm_private_data")
        return try string(u64(special, "vm_special_mapping", "name"), limit: 64)
      }
    }
    let heapStart = try u64(memory, "mm_struct", "start_brk")
    let heapEnd = try u64(memory, "mm_struct", "brk")
    if range.lowerBound < heapEnd, range.upperBound > heapStart { return "[heap]" }
    let stack = try u64(memory, "mm_struct", "start_stack")
    if range.lowerBound <= stack, range.upperBound >= stack { return "[stack]" }
    // Names that the process gave, where the kernel is built with them.
    guard has("vm_area_struct", "anon_name") else { return nil }
    let name = try u64(area, "vm_area_struct", "anon_name")
    guard name != 0, has("anon_vma_name", "name") else { return nil }
    return "[anon:\(try string(address(name, "anon_vma_name", "name"), limit: 80))]"
  }

  /// The `vm_area_struct`s of an `mm_struct` by ascending address.
  package func areas(ofMemory memory: UInt64) throws -> [UInt64] {
    // A maple tree from 6.1 on; before, a list.
    guard has("mm_struct", "mm_mt") else {
      return try chain(
        u64(memory, "mm_struct", "mmap"),
        nextOffset: UInt64(field("vm_area_struct", "vm_next").offset),
        limit: Self.mappingLimit,
        "mappings"
      )
    }
    let root = try u64(memory, "mm_struct", "mm_mt.ma_root")
    guard root != 0 else { return [] }
    // A tree of one entry has no node.
    guard root & 3 == 2 else { return [root] }
    var tree = MapleTree(layouts: try mapleLayouts())
    try visit(root, maximum: .max, depth: 0, in: &tree)
    return tree.entries
  }

  /// Where the pivots and slots of a node of a maple tree are.
  private struct MapleLayout {
    var pivotOffset: Int
    var pivotCount: Int
    var slotOffset: Int
    var slotCount: Int
  }

  private struct MapleTree {
    /// By type: 1 is a leaf, 2 has nodes below, 3 has gaps as well.
    var layouts: [UInt64: MapleLayout]
    var entries: [UInt64] = []
    var seen: Set<UInt64> = []
  }

  private func mapleLayouts() throws -> [UInt64: MapleLayout] {
    func layout(_ type: String) throws -> MapleLayout {
      let (pivots, slots) = (try field(type, "pivot"), try field(type, "slot"))
      let layout = MapleLayout(
        pivotOffset: pivots.offset,
        pivotCount: pivots.byteCount / 8,
        slotOffset: slots.offset,
        slotCount: slots.byteCount / 8
      )
      guard layout.pivotOffset + layout.pivotCount * 8 <= Self.mapleNodeByteCount,
        layout.slotOffset + layout.slotCount * 8 <= Self.mapleNodeByteCount
      else {
        throw GuestFault.broken("a maple tree's node is larger than \(Self.mapleNodeByteCount)")
      }
      return layout
    }
    let (range, gaps) = (try layout("maple_range_64"), try layout("maple_arange_64"))
    return [1: range, 2: range, 3: gaps]
  }

  /// Adds the entries below a node, whose last index is `maximum`.
  private func visit(
    _ encoded: UInt64,
    maximum: UInt64,
    depth: Int,
    in tree: inout MapleTree
  ) throws {
    // The lower byte of a node's address holds its type.
    let (node, type) = (encoded & ~0xff, encoded >> 3 & 15)
    guard let layout = tree.layouts[type], depth < Self.mapleDepthLimit,
      tree.seen.insert(node).inserted, tree.entries.count < Self.mappingLimit
    else {
      note("the tree of mappings is torn at \(hexString(node))")
      return
    }
    let words: [UInt64]
    do {
      words = try bytes(node, count: Self.mapleNodeByteCount).withUnsafeBytes { bytes in
        stride(from: 0, to: bytes.count, by: 8).map {
          UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt64.self))
        }
      }
    } catch let fault as GuestFault {
      note("the tree of mappings is torn: \(fault)")
      return
    }
    for index in 0..<layout.slotCount {
      var pivot = index < layout.pivotCount ? words[layout.pivotOffset / 8 + index] : maximum
      // Unused pivots are 0.
      if pivot == 0, index > 0 { pivot = maximum }
      guard pivot <= maximum else { break }
      let entry = words[layout.slotOffset / 8 + index]
      if entry != 0 {
        if type != 1 {
          try visit(entry, maximum: pivot, depth: depth + 1, in: &tree)
        } else if entry & 3 == 0 {
          tree.entries.append(entry)
        }
      }
      if pivot >= maximum { break }
    }
  }
}
