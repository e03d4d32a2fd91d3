/// A kernel's own table of its symbols: address, type and name of each, as kallsyms keeps them.
package final class Kallsyms {
  /// How the table gives addresses.
  package enum Addressing {
    /// x86-64 up to 6.14: negative values count down from a base, others are the address itself.
    case absolutePerCPU
    /// arm64, and x86-64 from 6.15 to 6.19: values count up from a base.
    case baseRelative
    /// From 7.0 on: distances from the value's own place, and so places in RAM, not virtual addresses.
    case placeRelative
  }

  static let maximumCount = 2_000_000
  static let maximumNameByteCount = 512
  /// More symbols than this in one run of a hash table's slots are not kept.
  private static let maximumProbeCount = 128

  package let addressing: Addressing
  /// Where the names are.
  let namesGPA: UInt64
  /// Where the names begin whose offset each marker has.
  private let groups: [Int]
  private let names: [UInt8]
  let tokens: TokenTable
  /// By number; virtual, except that of ``Addressing/placeRelative`` the distance to them is missing.
  private let values: [UInt64]
  private let hasValueItself: [Bool]
  /// What ``Addressing/placeRelative`` values lack.
  var offset: UInt64 = 0

  /// The hash table of names: a symbol's number + 1, and its name's hash.
  private var slots: [UInt32]
  private var hashes: [UInt64]
  private var byAddress: [UInt32]?

  package var count: Int { values.count }

  init(
    addressing: Addressing,
    namesGPA: UInt64,
    names: [UInt8],
    tokens: TokenTable,
    values: [UInt64],
    hasValueItself: [Bool]
  ) throws(GuestFault) {
    self.addressing = addressing
    self.namesGPA = namesGPA
    self.names = names
    self.tokens = tokens
    self.values = values
    self.hasValueItself = hasValueItself
    var size = 1024
    while size < values.count * 2 { size *= 2 }
    slots = Array(repeating: 0, count: size)
    hashes = Array(repeating: 0, count: values.count)
    var groups: [Int] = []
    var position = 0
    // The first symbol of a name is the one that it means.
    let scratch = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: Self.maximumNameByteCount)
    defer { scratch.deallocate() }
    let mask = size - 1
    for number in 0..<values.count {
      if number & 255 == 0 { groups.append(position) }
      guard let (entry, next) = Self.entry(names, position) else {
        throw .broken("the kernel's symbol names are damaged")
      }
      position = next
      let length = names.withUnsafeBufferPointer {
        tokens.expand($0.baseAddress! + entry.lowerBound, entry.count, into: scratch)
      }
      guard let length, length > 1 else { continue }
      let hash = Self.hash(UnsafeBufferPointer(rebasing: scratch[1..<length]))
      hashes[number] = hash
      var slot = Int(truncatingIfNeeded: hash >> 20) & mask
      for _ in 0..<Self.maximumProbeCount {
        let other = Int(slots[slot])
        if other == 0 {
          slots[slot] = UInt32(number + 1)
          break
        }
        if hashes[other - 1] == hash { break }
        slot = (slot + 1) & mask
      }
    }
    self.groups = groups
  }

  /// The token numbers of the name at `position`, and where the next one begins.
  @inline(__always)
  static func entry(_ names: [UInt8], _ position: Int) -> (Range<Int>, next: Int)? {
    guard position < names.count else { return nil }
    var length = Int(names[position])
    var start = position + 1
    // From 6.1 on: two bytes, the lower 7 bits first.
    if length & 0x80 != 0 {
      guard start < names.count else { return nil }
      length = length & 0x7f | Int(names[start]) << 7
      start += 1
    }
    guard length <= names.count - start else { return nil }
    return (start..<(start + length), start + length)
  }

  private static func hash(_ name: UnsafeBufferPointer<UInt8>) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in name { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
    return (hash ^ hash >> 29) &* 0xbf58_476d_1ce4_e5b9
  }

  /// The address of the symbol with this number.
  package func address(_ number: Int) -> UInt64 {
    hasValueItself.isEmpty || !hasValueItself[number] ? values[number] &+ offset : values[number]
  }

  /// The number of the first symbol with this name.
  package func number(_ name: String) -> Int? {
    var name = name
    let hash = name.withUTF8 { Self.hash($0) }
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: hash >> 20) & mask
    for _ in 0..<Self.maximumProbeCount {
      let number = Int(slots[slot]) - 1
      guard number >= 0 else { return nil }
      if hashes[number] == hash, self.name(number) == name { return number }
      slot = (slot + 1) & mask
    }
    return nil
  }

  /// The address of the first symbol with this name.
  package func address(of name: String) -> UInt64? { number(name).map(address) }

  /// The symbol's type as `nm` has it, and its name.
  package func symbol(_ number: Int) -> (type: UInt8, name: String) {
    var position = groups[number >> 8]
    var entry = 0..<0
    for _ in 0...(number & 255) {
      guard let (range, next) = Self.entry(names, position) else { return (0x3f, "") }
      (entry, position) = (range, next)
    }
    guard let (type, name) = expand(entry) else { return (0x3f, "") }
    return (type, name)
  }

  /// The symbol whose name is at `position`, and where the next one is.
  fileprivate func symbol(at position: Int) -> (type: UInt8, name: String, next: Int)? {
    guard let (entry, next) = Self.entry(names, position) else { return nil }
    let (type, name) = expand(entry) ?? (0x3f, "")
    return (type, name, next)
  }

  /// Whether the symbol's value is a number, such as a place in per-CPU memory, and not an address.
  package func isNumber(_ number: Int) -> Bool {
    !hasValueItself.isEmpty && hasValueItself[number]
  }

  private func expand(_ entry: Range<Int>) -> (type: UInt8, name: String)? {
    withUnsafeTemporaryAllocation(
      of: UInt8.self,
      capacity: Self.maximumNameByteCount
    ) { scratch in
      let length = names.withUnsafeBufferPointer {
        tokens.expand($0.baseAddress! + entry.lowerBound, entry.count, into: scratch)
      }
      guard let length, length > 0 else { return nil }
      return (scratch[0], GuestText.escaped(scratch[1..<length]))
    }
  }

  private func name(_ number: Int) -> String { symbol(number).name }

  /// The symbol that begins at `address` or is the last before it: of several at one address the first.
  package func name(at address: UInt64) -> (name: String, distance: UInt64)? {
    let order = order()
    var (low, high) = (0, order.count)
    while low < high {
      let middle = (low + high) / 2
      if self.address(Int(order[middle])) <= address { low = middle + 1 } else { high = middle }
    }
    guard low > 0 else { return nil }
    var index = low - 1
    let found = self.address(Int(order[index]))
    while index > 0, self.address(Int(order[index - 1])) == found { index -= 1 }
    return (name(Int(order[index])), address &- found)
  }

  /// The symbols' numbers by ascending address, and among equal ones by number.
  package func order() -> [UInt32] {
    if let byAddress { return byAddress }
    var order = (0..<UInt32(count)).map { $0 }
    order.sort { a, b in
      let (first, second) = (address(Int(a)), address(Int(b)))
      return first != second ? first < second : a < b
    }
    byAddress = order
    return order
  }
}

/// A kernel's symbols in the table's order.
package struct KallsymsIterator {
  private let kallsyms: Kallsyms
  private var number = -1
  private var position = 0

  package init(_ kallsyms: Kallsyms) { self.kallsyms = kallsyms }

  /// The next symbol: its type as `nm` has it, name, address, and whether that is a number and not a place.
  package mutating func next() -> (type: UInt8, name: String, address: UInt64, isNumber: Bool)? {
    number += 1
    guard number < kallsyms.count, let (type, name, next) = kallsyms.symbol(at: position) else {
      return nil
    }
    position = next
    return (type, name, kallsyms.address(number), kallsyms.isNumber(number))
  }
}
