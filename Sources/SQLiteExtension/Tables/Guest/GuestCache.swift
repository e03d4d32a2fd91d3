import VMCheckpointCore

/// What was found of the guests that were asked about last, so that the next question needs no search.
final class GuestCache {
  /// A snapshot's RAM and what runs in it.
  final class Guest {
    let ram: StoredGuestRAM<HostDatabase>
    let system: GuestSystem
    fileprivate var lastUse = 0
    private var frameTable: FrameTable?
    private var processRoots: [Int64: UInt64]?

    init(_ ram: StoredGuestRAM<HostDatabase>, _ system: GuestSystem) {
      self.ram = ram
      self.system = system
    }

    /// Who owns which frame: made when it is first asked for.
    func frames(_ kernel: GuestKernel) throws -> FrameTable {
      if let frameTable { return frameTable }
      let table = try FrameTable(kernel)
      frameTable = table
      return table
    }

    /// The top page table of a process; `nil` where there is no such process with memory.
    func pageTableRoot(ofProcess pid: Int64, _ kernel: GuestKernel) throws -> UInt64? {
      let roots = try processRoots ?? kernel.processRoots()
      processRoots = roots
      return roots[pid]
    }
  }

  // The connection owns both.
  private unowned let reader: StoreReader<HostDatabase>
  private var guests: [String: Guest] = [:]
  private var clock = 0

  /// Two snapshots are compared, and a third may be asked for in between.
  private static let capacity = 3
  private static let pageByteLimit = 40 << 20

  init(_ reader: StoreReader<HostDatabase>) { self.reader = reader }

  func release() { guests = [:] }

  /// The guest of a snapshot.
  func guest(_ snapshot: StoredSnapshot) throws -> Guest {
    clock += 1
    if let guest = guests[snapshot.uuid], guest.ram.snapshot.id == snapshot.id {
      try guest.ram.refresh()
      guest.lastUse = clock
      return guest
    }
    if guests.count >= Self.capacity,
      let oldest = guests.min(by: { $0.value.lastUse < $1.value.lastUse })
    {
      guests[oldest.key] = nil
    }
    let ram = try StoredGuestRAM(reader, snapshot, cacheByteLimit: Self.pageByteLimit)
    let guest = Guest(ram, try GuestSystem.find(in: ram, known: .standard))
    guest.lastUse = clock
    guests[snapshot.uuid] = guest
    return guest
  }

  /// The kernel of a snapshot's guest, a query begun.
  ///
  /// - Throws: ``SQLError`` that says what is missing.
  func kernel(_ snapshot: StoredSnapshot) throws -> GuestKernel {
    try kernel(of: guest(snapshot), snapshot)
  }

  /// The guest's kernel, a query begun.
  ///
  /// - Throws: ``SQLError`` that says what is missing.
  func kernel(of guest: Guest, _ snapshot: StoredSnapshot) throws -> GuestKernel {
    guard let kernel = guest.system.kernel else {
      throw SQLError.misuse("\(snapshot.title): \(guest.system.missing ?? "no kernel was found")")
    }
    kernel.begin()
    return kernel
  }
}
