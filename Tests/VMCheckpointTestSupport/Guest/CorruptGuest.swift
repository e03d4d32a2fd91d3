package import VMCheckpointCore

/// Corrupts a guest's memory and reads all that its kernel says.
package enum CorruptGuest {
  /// The places of words that are not zero in pages that were read.
  package static func words(_ ram: FlatGuestRAM) -> [Int] {
    ram.readPFNs.sorted().flatMap { pfn in
      stride(from: Int(pfn) * 4096, to: Int(pfn + 1) * 4096, by: 8).filter { place in
        ram.bytes[place..<(place + 8)].contains { $0 != 0 }
      }
    }
  }

  /// Overwrites words.
  ///
  /// - Returns: What they were, in order.
  package static func corrupt(
    _ ram: FlatGuestRAM,
    _ words: [Int],
    count: Int,
    _ random: inout some RandomNumberGenerator
  ) -> [(place: Int, value: UInt64)] {
    (0..<count).map { _ in
      let place = words.randomElement(using: &random)!
      let old = value(ram, place)
      let new: UInt64
      switch Int.random(in: 0..<7, using: &random) {
      case 0: new = 0
      case 1: new = .max
      case 2: new = value(ram, words.randomElement(using: &random)!)
      case 3: new = .random(in: 0 ... .max, using: &random)
      case 4: new = old &+ [8, 64, 4096, 1 << 20, .max - 7].randomElement(using: &random)!
      case 5: new = [1, 0x7fff_ffff, 0xffff_ffff, 1 << 40, 1 << 63].randomElement(using: &random)!
      default: new = old ^ 1 << UInt64.random(in: 0..<64, using: &random)
      }
      put(ram, place, new)
      return (place, old)
    }
  }

  package static func value(_ ram: FlatGuestRAM, _ place: Int) -> UInt64 {
    (0..<8).reduce(0) { $0 | UInt64(ram.bytes[place + $1]) << UInt64($1 * 8) }
  }

  package static func put(_ ram: FlatGuestRAM, _ place: Int, _ value: UInt64) {
    ram.bytes.replaceSubrange(place..<(place + 8), with: littleEndian(value))
  }

  /// Reads every table. Errors are what should come of broken memory.
  package static func readEverything(_ kernel: GuestKernel) {
    func reading(_ body: () throws -> Void) {
      kernel.begin()
      try? body()
    }
    kernel.forgetTranslations()
    reading { _ = try kernel.processes() }
    reading { _ = try kernel.threads() }
    reading { _ = try kernel.openFiles() }
    reading { _ = try kernel.mappings() }
    reading { _ = try kernel.sockets() }
    reading { _ = try kernel.networkDevices() }
    reading { _ = try kernel.mounts() }
    reading { _ = try kernel.modules() }
    reading { _ = try kernel.logRecords() }
    reading { _ = try GuestSystem(kernel: kernel).facts(kernel.ram) }
    reading {
      for root in try kernel.processRoots().values {
        _ = try kernel.userBytes(root: root, 0x7fff_0000_0000, count: 64)
      }
    }
    reading {
      let table = try FrameTable(kernel)
      for pfn in stride(from: UInt64(0), to: UInt64(table.frameCount), by: 61) {
        guard let ordinal = table.ordinal(pfn) else { continue }
        _ = table.owner(ordinal)
        _ = try table.details(pfn)
      }
    }
  }
}
