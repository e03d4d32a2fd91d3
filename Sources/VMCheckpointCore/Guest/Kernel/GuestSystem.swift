/// What was found of a guest's operating system.
package struct GuestSystem {
  /// The kernel, when it is one whose structures can be read.
  package var kernel: GuestKernel?
  /// What the kernel says to crash dumps, if it was found.
  package var info: VMCoreInfo?
  /// In one sentence without a full stop, what is missing; `nil` when nothing is.
  package var missing: String?

  package init(kernel: GuestKernel?, info: VMCoreInfo? = nil, missing: String? = nil) {
    self.kernel = kernel
    self.info = info
    self.missing = missing
  }

  /// Attempts with symbols and types that do not fit each other: a guest may hold many fakes.
  private static let attemptLimit = 16
  /// Symbols and types of more kernels are not kept, nor more bytes of types.
  private static let candidateLimit = 4
  private static let typesByteLimit = 96 << 20

  /// Looks for a Linux kernel in a guest's RAM.
  ///
  /// - Throws: What keeps RAM from being read.
  package static func find(in ram: any GuestRAM) throws -> GuestSystem {
    var finder = Finder(ram)
    return try finder.run()
  }

  private struct Finder {
    let ram: any GuestRAM
    var scan = GuestScan()
    var kallsyms: [Kallsyms] = []
    var types: [(range: Range<UInt64>, types: BTF)] = []
    var infos: [VMCoreInfo] = []
    private var triedTokenIndexes = 0
    private var triedTypeHeaders = 0
    private var typesByteCount = 0
    private var attemptCount = 0
    /// Why the last attempt failed.
    private var lastFault: GuestFault?

    init(_ ram: any GuestRAM) { self.ram = ram }

    mutating func run() throws -> GuestSystem {
      var next: UInt64? = 0
      while let pfn = next {
        next = try scan.run(ram, from: pfn)
        if next != nil {
          // Without VMCOREINFO: all that most kernels need is here, and the rest of RAM may stay unread.
          try readNew()
          if let kernel = try settle() { return GuestSystem(kernel: kernel, info: infos.first) }
        }
      }
      try readNew()
      for gpa in scan.infoPages where infos.count < 4 {
        if let page = try ram.page(gpa >> UInt64(Page.shift)) { infos.append(VMCoreInfo(page)) }
      }
      attemptCount = 0
      if let kernel = try settle() { return GuestSystem(kernel: kernel, info: infos.first) }
      return GuestSystem(kernel: nil, info: infos.first, missing: missing)
    }

    private mutating func readNew() throws {
      for gpa in scan.tokenIndexes[triedTokenIndexes...] where kallsyms.count < candidateLimit {
        guard let tokens = try TokenTable(ram, indexAt: gpa),
          let found = try KallsymsFinder(ram).symbols(tokens)
        else { continue }
        kallsyms.append(found)
      }
      triedTokenIndexes = scan.tokenIndexes.count
      for gpa in scan.typeHeaders[triedTypeHeaders...] where types.count < candidateLimit {
        guard let header = try ram.bytes(gpa, count: BTF.headerByteCount),
          let count = header.withUnsafeBytes({ BTF.byteCount($0) }),
          count <= typesByteLimit - typesByteCount,
          let bytes = try ram.bytes(gpa, count: count)
        else { continue }
        do throws(GuestFault) {
          let found = try BTF(bytes)
          guard found.structure("task_struct") != nil else { continue }
          types.append((gpa..<(gpa + UInt64(count)), found))
          typesByteCount += count
        } catch {
          continue
        }
      }
      triedTypeHeaders = scan.typeHeaders.count
    }

    private mutating func settle() throws -> GuestKernel? {
      for kallsyms in kallsyms {
        for (range, types) in types {
          for info in infos.map(Optional.some) + [nil] {
            guard attemptCount < attemptLimit else { return nil }
            attemptCount += 1
            let settling = KernelSettling(ram, kallsyms, types, range, info)
            do {
              return try settling.kernel()
            } catch let fault as GuestFault {
              lastFault = fault
              continue
            }
          }
        }
      }
      return nil
    }

    private var missing: String {
      if !kallsyms.isEmpty, !types.isEmpty {
        return
          "a Linux kernel is there, but its page tables are not: they were left out, or RAM lies at "
          + "other addresses than the snapshot's regions say"
      }
      if !kallsyms.isEmpty {
        return "the kernel has no type information (BTF), which CONFIG_DEBUG_INFO_BTF makes"
      }
      if !infos.isEmpty {
        return "a Linux kernel is there, but its table of symbols (kallsyms) is not in RAM"
      }
      return
        "no 64-bit Linux kernel was found: another system, a 32-bit or encrypted guest, or its "
        + "pages were left out"
    }
  }
}
