package import VMCheckpoint

/// What QEMU's `info mtree -f` says about guest-physical addresses: which block is seen where.
package struct QEMUMemoryTree {
  /// A run of addresses that show a part of one memory region.
  struct Entry: Hashable {
    var firstGPA: UInt64
    /// The last byte's.
    var lastGPA: UInt64
    /// The region's name, for RAM that of its block; perhaps with an offset and an accelerator's name
    /// behind it, which ``offset(inBlock:)`` tells apart.
    var text: Substring
  }

  /// Those of the address space in which CPUs see memory.
  let entries: [Entry]

  /// Reads the monitor's text:
  ///
  ///     FlatView #1
  ///      AS "memory", root: system
  ///      Root memory region: system
  ///       0000000000000000-000000000009ffff (prio 0, ram): pc.ram
  ///       0000000000100000-0000000007ffffff (prio 0, ram): pc.ram @0000000000100000
  ///
  /// (QEMU `softmmu/memory.c`, `mtree_print_flatview`.)
  package init(_ text: String) {
    var entries: [Entry] = []
    var isWanted = false
    for line in text.split(whereSeparator: \.isNewline) {
      if line.hasPrefix("FlatView #") {
        isWanted = false
      } else if line.hasPrefix(" AS \"memory\",") {
        isWanted = true
      } else if isWanted, let entry = Self.entry(line) {
        entries.append(entry)
      }
    }
    self.entries = entries
  }

  private static func entry(_ line: Substring) -> Entry? {
    let text = line.drop { $0 == " " }
    guard let type = text.firstRange(of: " (prio "), let name = text.firstRange(of: "): ") else {
      return nil
    }
    let range = text[..<type.lowerBound].split(separator: "-").compactMap { UInt64($0, radix: 16) }
    guard range.count == 2, range[0] <= range[1] else { return nil }
    return Entry(firstGPA: range[0], lastGPA: range[1], text: text[name.upperBound...])
  }

  /// Whether all that is seen of the blocks lies where `layout` says, and each region is seen.
  ///
  /// - Parameter blocks: The parts of flat RAM, one after the other.
  package func agrees(with layout: RAMLayout, blocks: [(name: String, byteCount: UInt64)]) -> Bool {
    var seenRegions = Set<UInt64>()
    var blockStart: UInt64 = 0
    for block in blocks {
      for entry in entries {
        guard let offset = entry.offset(inBlock: block.name) else { continue }
        guard entry.firstGPA % UInt64(Page.byteCount) == 0, offset < block.byteCount,
          entry.lastGPA - entry.firstGPA < block.byteCount - offset,
          let region = layout.region(holding: PFN(gpa: entry.firstGPA)),
          entry.lastGPA < region.endGPA,
          region.fileOffset + (entry.firstGPA - region.gpa) == blockStart + offset
        else { return false }
        seenRegions.insert(region.gpa)
      }
      blockStart += block.byteCount
    }
    return seenRegions.count == layout.regions.count
  }
}

extension QEMUMemoryTree.Entry {
  /// Where in the block `name` the entry's first byte is; `nil` when it shows something else.
  func offset(inBlock name: String) -> UInt64? {
    guard text.hasPrefix(name) else { return nil }
    var rest = text.dropFirst(name.count)
    var offset: UInt64 = 0
    if rest.hasPrefix(" @") {
      let digits = rest.dropFirst(2).prefix(16)
      guard digits.count == 16, let value = UInt64(digits, radix: 16) else { return nil }
      offset = value
      rest = rest.dropFirst(18)
    }
    // With an accelerator that has memory of its own, its name follows.
    guard rest.isEmpty || (rest.hasPrefix(" ") && rest.dropFirst().allSatisfy(\.isLetter)) else {
      return nil
    }
    return offset
  }
}
