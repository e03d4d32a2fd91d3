/// Members of a kernel's structures, by the names that its own type information has.
///
/// What kernels have called differently is one read with alternatives: `or:` names the member of other
/// versions.
extension GuestKernel {
  /// Whether this kernel's structure has the member.
  package func has(_ type: String, _ path: String) -> Bool { types.field(type, path) != nil }

  /// Where the first of these members is.
  ///
  /// - Throws: ``GuestFault`` when this kernel has none of them.
  package func field(
    _ type: String,
    _ path: String,
    or second: String? = nil,
    or third: String? = nil
  ) throws -> BTF.Field {
    if let field = types.field(type, path) { return field }
    if let second, let field = types.field(type, second) { return field }
    if let third, let field = types.field(type, third) { return field }
    throw GuestFault.noMember("\(type).\(path)")
  }

  /// The address of a member of the structure at `object`.
  package func address(
    _ object: UInt64,
    _ type: String,
    _ path: String,
    or second: String? = nil,
    or third: String? = nil
  ) throws -> UInt64 {
    object &+ UInt64(try field(type, path, or: second, or: third).offset)
  }

  /// The structure whose member is at `address`, as `container_of` of the kernel.
  package func container(_ address: UInt64, _ type: String, _ path: String) throws -> UInt64 {
    address &- UInt64(try field(type, path).offset)
  }

  /// A member's value without sign, whatever its size; of an array, its first 8 bytes.
  package func u64(
    _ object: UInt64,
    _ type: String,
    _ path: String,
    or second: String? = nil,
    or third: String? = nil
  ) throws -> UInt64 {
    try value(object, try field(type, path, or: second, or: third))
  }

  /// A member's value with its sign.
  package func s64(
    _ object: UInt64,
    _ type: String,
    _ path: String,
    or second: String? = nil,
    or third: String? = nil
  ) throws -> Int64 {
    let field = try field(type, path, or: second, or: third)
    let value = try value(object, field)
    let bitCount = field.bitCount > 0 ? field.bitCount : min(field.byteCount, 8) * 8
    guard (1..<64).contains(bitCount) else { return Int64(bitPattern: value) }
    let shift = UInt64(64 - bitCount)
    return Int64(bitPattern: value &<< shift) >> Int64(shift)
  }

  /// A member's value without sign.
  @inline(__always)
  package func value(_ object: UInt64, _ field: BTF.Field) throws -> UInt64 {
    let va = object &+ UInt64(field.offset)
    if field.bitCount > 0 {
      let byteCount = (field.bitOffset + field.bitCount + 7) / 8
      guard field.bitCount <= 64, byteCount <= 8 else {
        throw GuestFault.broken("a bit field has \(field.bitCount) bits")
      }
      var value: UInt64 = 0
      try withUnsafeMutableBytes(of: &value) {
        try read(va, into: UnsafeMutableRawBufferPointer(rebasing: $0[..<byteCount]))
      }
      value = UInt64(littleEndian: value) >> UInt64(field.bitOffset)
      return field.bitCount == 64 ? value : value & ((1 << UInt64(field.bitCount)) - 1)
    }
    switch field.byteCount {
    case 1: return UInt64(try number(va, as: UInt8.self))
    case 2: return UInt64(try number(va, as: UInt16.self))
    case 4: return UInt64(try number(va, as: UInt32.self))
    default: return try number(va, as: UInt64.self)
    }
  }

  /// A text in an array of characters that is a member.
  package func text(_ object: UInt64, _ type: String, _ path: String) throws -> String {
    let field = try field(type, path)
    return try string(object &+ UInt64(field.offset), limit: min(max(field.byteCount, 1), 4096))
  }

  /// The size of a structure.
  package func byteCount(of type: String) throws -> Int {
    guard let count = types.byteCount(of: type), count > 0 else {
      throw GuestFault.noMember(type)
    }
    return count
  }

  // MARK: Lists

  /// The nodes of a `list_head` ring without its head. A ring that is torn is read from its other end as well,
  /// with a note.
  ///
  /// - Parameters:
  ///   - head: The address of the ring's head.
  ///   - what: What the nodes are, for notes.
  package func ring(_ head: UInt64, limit: Int, _ what: String) throws -> [UInt64] {
    var nodes: [UInt64] = []
    var seen: Set<UInt64> = [head]
    var previous = head
    var isTorn = false
    var node: UInt64
    do {
      node = try u64(head)
    } catch let fault as GuestFault {
      throw GuestFault.broken("the list of \(what) has no beginning: \(fault)")
    }
    while node != head {
      guard seen.insert(node).inserted else {
        note("the list of \(what) goes round in a circle at \(hexString(previous))")
        isTorn = true
        break
      }
      guard nodes.count < limit else {
        note("the list of \(what) has more than \(limit)")
        return nodes
      }
      do {
        let next = try u64(node)
        if try u64(node &+ 8) != previous {
          note("the list of \(what) is torn at \(hexString(node)): it does not point back")
          isTorn = true
        }
        nodes.append(node)
        (previous, node) = (node, next)
      } catch let fault as GuestFault {
        note("the list of \(what) is torn after \(hexString(previous)): \(fault)")
        isTorn = true
        break
      }
    }
    guard isTorn else {
      // An empty list points at itself with both of its ends.
      if nodes.isEmpty, try u64(head &+ 8) != head {
        note("the list of \(what) is torn at \(hexString(head)): its ends are not the same")
        return try backwards(head, seen: &seen, limit: limit)
      }
      return nodes
    }
    return nodes + (try backwards(head, seen: &seen, limit: limit - nodes.count))
  }

  /// The nodes of a torn ring that are found from its end on and were not seen before, in the ring's order.
  private func backwards(
    _ head: UInt64,
    seen: inout Set<UInt64>,
    limit: Int
  ) throws -> [UInt64] {
    var found: [UInt64] = []
    var passed: Set<UInt64> = [head]
    do {
      var node = try u64(head &+ 8)
      while passed.insert(node).inserted, found.count < limit {
        let previous = try u64(node &+ 8)
        if seen.insert(node).inserted { found.append(node) }
        node = previous
      }
    } catch is GuestFault {
      // Torn from this end on as well: the note has said so.
    }
    return found.reversed()
  }

  /// Runs `body`, which fills a part of a row: what cannot be read costs that part, and is noted.
  package func attempt(_ what: @autoclosure () -> String, _ body: () throws -> Void) throws {
    do {
      try body()
    } catch let fault as GuestFault {
      note("\(what()): \(fault)")
    }
  }

  /// The nodes of an `hlist` or a list that `next` pointers alone make. One that is torn ends there, with a note.
  ///
  /// - Parameters:
  ///   - first: The first node, or 0.
  ///   - nextOffset: Where in a node the next one's address is.
  ///   - isEnd: Whether an address ends the list; 0 always does.
  package func chain(
    _ first: UInt64,
    nextOffset: UInt64 = 0,
    limit: Int,
    _ what: String,
    isEnd: (UInt64) -> Bool = { _ in false }
  ) throws -> [UInt64] {
    var nodes: [UInt64] = []
    var seen: Set<UInt64> = []
    var node = first
    while node != 0, !isEnd(node) {
      guard seen.insert(node).inserted, nodes.count < limit else {
        note("the list of \(what) does not end")
        break
      }
      do {
        let next = try u64(node &+ nextOffset)
        nodes.append(node)
        node = next
      } catch let fault as GuestFault {
        note("the list of \(what) is torn: \(fault)")
        break
      }
    }
    return nodes
  }

  /// The sum of a per-CPU counter, as `percpu_counter_sum` gives it.
  package func sumOfPerCPUCounter(_ counter: UInt64) throws -> Int64 {
    var sum = try s64(counter, "percpu_counter", "count")
    let counters = try u64(counter, "percpu_counter", "counters")
    guard counters != 0 else { return sum }
    for offset in perCPUOffsets {
      do {
        sum = sum &+ Int64(try s32(counters &+ offset))
      } catch is GuestFault {
        // Not every processor that may come is there.
        continue
      }
    }
    return sum
  }
}
