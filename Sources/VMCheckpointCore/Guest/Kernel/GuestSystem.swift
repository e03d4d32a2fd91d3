/// What was found of a guest's operating system.
package struct GuestSystem {
  /// The kernel, when it is one whose structures can be read.
  package var kernel: GuestKernel?
  /// What the kernel says to crash dumps, if it was found.
  package var info: VMCoreInfo?
  /// What a guest without one shows of its system.
  var marks: GuestMarks?
  /// In one sentence without a full stop, what is missing; `nil` when nothing is.
  package var missing: String?
  /// Whether the kernel was found by what was known of it, without a search through RAM.
  package var wasKnown = false

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
  /// - Parameter folder: Where kernels that were found before are known, and this one will be.
  /// - Throws: What keeps RAM from being read.
  package static func find(
    in ram: any GuestRAM,
    known folder: KnownKernelFolder? = nil
  ) throws -> GuestSystem {
    if let folder, let system = try KnownKernelSearch(ram, folder).system() { return system }
    var finder = Finder(ram)
    let system = try finder.run()
    if let folder, let known = try finder.known() { folder.keep(known) }
    return system
  }

  private struct Finder {
    let ram: any GuestRAM
    var scan = GuestScan()
    var kallsyms: [Kallsyms] = []
    var types: [(range: Range<UInt64>, types: BTF)] = []
    var infos: [(gpa: UInt64, info: VMCoreInfo)] = []
    /// What the kernel was made of.
    private var found: (kallsyms: Kallsyms, typesGPA: UInt64, infoGPA: UInt64?)?
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
          if let kernel = try settle() {
            return GuestSystem(kernel: kernel, info: infos.first?.info)
          }
        }
      }
      try readNew()
      for gpa in scan.infoPages where infos.count < 4 {
        if let page = try ram.page(gpa >> UInt64(Page.shift)) {
          infos.append((gpa, VMCoreInfo(page)))
        }
      }
      attemptCount = 0
      if let kernel = try settle() { return GuestSystem(kernel: kernel, info: infos.first?.info) }
      let marks = try GuestMarks(ram)
      var system = GuestSystem(kernel: nil, info: infos.first?.info, missing: missing(marks))
      system.marks = marks
      return system
    }

    /// Where the kernel that was found has its symbols and types; `nil` where none was.
    func known() throws -> KnownKernel? {
      guard let found else { return nil }
      let indexGPA = found.kallsyms.tokens.indexGPA
      let anchorGPA = indexGPA & ~UInt64(Page.byteCount - 1)
      guard let page = try ram.page(anchorGPA >> UInt64(Page.shift)) else { return nil }
      return KnownKernel(
        anchor: PageDigest(of: UnsafeRawBufferPointer(start: page, count: Page.byteCount)),
        indexOffset: Int(indexGPA - anchorGPA),
        typesDistance: Int64(bitPattern: found.typesGPA &- anchorGPA),
        infoGPA: found.infoGPA
      )
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
        guard
          let (found, range) = try BTF.read(
            ram,
            at: gpa,
            byteLimit: typesByteLimit - typesByteCount
          )
        else { continue }
        types.append((range, found))
        typesByteCount += range.count
      }
      triedTypeHeaders = scan.typeHeaders.count
    }

    private mutating func settle() throws -> GuestKernel? {
      for kallsyms in kallsyms {
        for (range, types) in types {
          for info in infos.map(Optional.some) + [nil] {
            guard attemptCount < attemptLimit else { return nil }
            attemptCount += 1
            let settling = KernelSettling(ram, kallsyms, types, range, info?.info)
            do {
              let kernel = try settling.kernel()
              found = (kallsyms, range.lowerBound, info?.gpa)
              return kernel
            } catch let fault as GuestFault {
              lastFault = fault
              continue
            }
          }
        }
      }
      return nil
    }

    private func missing(_ marks: GuestMarks) -> String {
      if !kallsyms.isEmpty, !types.isEmpty {
        return
          "a Linux kernel is there, but its page tables are not: they were left out, or RAM lies at "
          + "other addresses than the snapshot's regions say"
      }
      if !kallsyms.isEmpty {
        return "the kernel has no type information (BTF), which CONFIG_DEBUG_INFO_BTF makes"
      }
      return marks.sentence(
        hasTypes: !types.isEmpty,
        isLinux: !infos.isEmpty,
        absentPageCount: ram.absentPageCount
      )
    }
  }
}
