/// Finds the list of modules of a kernel whose symbols do not have it, by the modules themselves.
extension GuestKernel {
  private static let moduleAlignment = 64
  private static let candidateLimit = 100_000

  /// The address of the list's head.
  ///
  /// - Throws: ``GuestFault`` when there is neither a symbol nor a module.
  func headOfModules() throws -> UInt64 {
    if let head = symbols.address(of: "modules") { return head }
    let list = UInt64(try field("module", "list").offset)
    let name = try field("module", "name").offset
    var head: UInt64?
    var candidateCount = 0
    try ram.visitPages(from: 0) { pfn, page in
      for offset in stride(from: 0, to: Page.byteCount, by: Self.moduleAlignment) {
        // Its state, its name, and where the next one is: all are in the first words of a module.
        guard Int(list) + offset + 16 <= Page.byteCount, name + offset < Page.byteCount,
          Self.isNamed(page.load(fromByteOffset: offset + name, as: UInt8.self)),
          page.load(fromByteOffset: offset, as: UInt32.self) <= 3
        else { continue }
        let next = UInt64(
          littleEndian: page.loadUnaligned(fromByteOffset: offset + Int(list), as: UInt64.self)
        )
        guard next >> 47 == 0x1ffff, next & 7 == 0 else { continue }
        candidateCount += 1
        guard candidateCount < Self.candidateLimit else { return false }
        let place = pfn << UInt64(Page.shift) &+ UInt64(offset) &+ list
        head = try headOfModules(from: next, nodeAt: place)
        if head != nil { return false }
      }
      return true
    }
    _ = takeNotes()
    guard let head else { throw GuestFault.noSymbol("modules") }
    symbols.add("modules", head)
    return head
  }

  /// The head of the ring with the node at this guest-physical address, if it is one of modules: all of its nodes
  /// but one are modules, and that one is in the kernel's image.
  private func headOfModules(from next: UInt64, nodeAt place: UInt64) throws -> UInt64? {
    do {
      // The next node points back: so this node's virtual address shows.
      let node = try u64(next &+ 8)
      guard try translate(node) == place, try isModule(node) else { return nil }
      let others = try ring(node, limit: Self.moduleLimit, "modules").filter { try !isModule($0) }
      guard others.count == 1, try translate(others[0]) == others[0] &- imageOffset else {
        return nil
      }
      return others[0]
    } catch is GuestFault {
      return nil
    }
  }

  /// Whether there is a module with its `list` at an address.
  private func isModule(_ node: UInt64) throws -> Bool {
    do {
      let module = try container(node, "module", "list")
      guard try u64(module, "module", "state") & 0xffff_ffff <= 3 else { return false }
      let name = try stringBytes(address(module, "module", "name"), limit: 56)
      return !name.isEmpty && name.count < 56 && name.allSatisfy(Self.isNamed)
    } catch is GuestFault {
      return false
    }
  }

  /// Whether modules have names with this character.
  private static func isNamed(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "_"):
      true
    default: false
    }
  }
}
