import VMCheckpointTestSupport

@testable import VMCheckpointCore

/// A made-up guest whose kernel's memory is corrupted: pointers that walks follow, or what the kernel is found by.
/// Or type information of any bytes.
struct GuestTarget: FuzzTarget {
  private let ram: FlatGuestRAM
  private let kernel: GuestKernel
  /// Words in pages that walks read.
  private let walkedWords: [Int]
  /// Words in pages that the search reads.
  private let searchedWords: [Int]
  private let types: [UInt8]

  init(_ setting: FuzzSetting) {
    guard let ram = try? FlatGuestRAM(SyntheticGuest(.before).ram),
      let kernel = try? GuestSystem.find(in: ram).kernel
    else { fatalError("the made-up guest has no kernel") }
    self.ram = ram
    self.kernel = kernel
    searchedWords = CorruptGuest.words(ram)
    guard let other = try? FlatGuestRAM(ram.bytes),
      let otherKernel = try? GuestSystem.find(in: other).kernel
    else { fatalError("the made-up guest has no kernel") }
    other.forgetReads()
    CorruptGuest.readEverything(otherKernel)
    walkedWords = CorruptGuest.words(other)
    var builder = BTFBuilder()
    let number = builder.integer("unsigned long", 8)
    let list = builder.structure("list_head", [("next", number), ("prev", number)])
    _ = builder.structure("task_struct", [("tasks", list), ("pid", number)])
    types = builder.bytes(minimumTypesByteCount: 0)
  }

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let choice = input.choice(of: 8)
    guard choice > 0 else { return try readTypes(input.rest()) }
    let words = choice == 1 ? searchedWords : walkedWords
    var undo: [(Int, UInt64)] = []
    while !input.isAtEnd, undo.count < 1000 {
      let place = words[Int(input.integer(UInt32.self)) % words.count]
      let old = CorruptGuest.value(ram, place)
      let other = words[Int(input.integer(UInt16.self)) % words.count]
      undo.append((place, old))
      let new: UInt64 =
        switch input.choice(of: 6) {
        case 0: 0
        case 1: CorruptGuest.value(ram, other)
        case 2: old &+ UInt64(bitPattern: Int64(Int8(bitPattern: input.byte()))) &* 8
        case 3: input.integer()
        case 4: UInt64(bitPattern: input.pick(FuzzValue.integers))
        default: old ^ 1 << UInt64(input.choice(of: 64))
        }
      CorruptGuest.put(ram, place, new)
    }
    defer { for (place, value) in undo.reversed() { CorruptGuest.put(ram, place, value) } }
    if choice == 1 {
      if let kernel = try GuestSystem.find(in: ram).kernel { CorruptGuest.readEverything(kernel) }
    } else {
      CorruptGuest.readEverything(kernel)
    }
  }

  private func readTypes(_ bytes: [UInt8]) throws {
    let types = try BTF(bytes)
    _ = types.field("task_struct", "tasks.next")
    _ = types.constant("PG_slab")
    var rows = BTFMemberIterator(types)
    while rows.next() != nil {}
  }

  var seeds: [[UInt8]] {
    [
      [0] + types, [1, 0, 0, 1, 0, 0, 0, 3], [2, 0, 0, 0, 200, 0, 9, 1],
      [3] + (0..<90).map { UInt8(truncatingIfNeeded: $0 * 37) },
    ]
  }
}
