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
    /// Why the attempt that came furthest failed: that a symbol is missing says least.
    private var bestFault: GuestFault?

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
      var system = GuestSystem(kernel: nil, info: infos.first?.info, missing: try missing(marks))
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
              if case .noSymbol = fault, bestFault != nil { continue }
              if bestFault == nil { bestFault = fault }
              if case .noSymbol = bestFault { bestFault = fault }
              continue
            }
          }
        }
      }
      return nil
    }

    private func missing(_ marks: GuestMarks) throws -> String {
      if !kallsyms.isEmpty, !types.isEmpty {
        return "a Linux kernel is there, but \(obstacle)\(loss)"
      }
      if !kallsyms.isEmpty { return try missingTypes() }
      return marks.sentence(
        hasTypes: !types.isEmpty,
        isLinux: !infos.isEmpty,
        hasDamagedSymbols: !scan.tokenIndexes.isEmpty,
        loss: loss
      )
    }

    /// What is not in RAM, as a sentence's end; empty where all is.
    private var loss: String {
      if ram.absentPageCount > 0 {
        return
          "; the dump left out \(ram.absentPageCount) pages, and the kernel's may be among them"
      }
      var holes: UInt64 = 0
      for (region, next) in zip(ram.layout.regions, ram.layout.regions.dropFirst()) {
        holes += next.firstPFN.rawValue - region.firstPFN.rawValue - region.pageCount
      }
      return holes > 0
        ? "; \(holes) pages between the snapshot's regions are not RAM, or were left out" : ""
    }

    /// What keeps symbols and types from being used.
    private var obstacle: String {
      switch bestFault {
      case nil, KernelSettling.tablesDoNotMap:
        "its page tables are not: they were left out, or RAM lies at other addresses than the "
          + "snapshot's regions say"
      case .noSymbol(let name)?:
        "where its image is in RAM is not known: it has no symbol \(name), and what it says to crash "
          + "dumps (VMCOREINFO) was not found"
      case let fault?: "it cannot be read: \(fault)"
      }
    }

    /// Whether the kernel has no types, or their pages are damaged or were left out.
    private func missingTypes() throws -> String {
      let symbols = kallsyms.first { $0.address(of: "__start_BTF") != nil }
      guard symbols != nil || !scan.typeHeaders.isEmpty else {
        let isSure = ram.absentPageCount == 0
        return "the kernel has no type information (BTF), which CONFIG_DEBUG_INFO_BTF makes"
          + (isSure
            ? "" : ", or it is among the \(ram.absentPageCount) pages that the dump left out")
      }
      let what = "a Linux kernel is there, but its type information (BTF) cannot be read: "
      guard let symbols, let range = typesRange(symbols) else {
        return what
          + (ram.absentPageCount > 0 ? "pages of it are absent or damaged" : "it is damaged")
          + loss
      }
      var absentCount = 0
      for pfn in (range.lowerBound >> UInt64(Page.shift))...(range.upperBound >> UInt64(Page.shift))
      where try ram.page(pfn) == nil {
        absentCount += 1
      }
      let place = "at GPA \(hexString(range.lowerBound))"
      return what
        + (absentCount > 0
          ? "the dump left out \(absentCount) of its pages, \(place)" : "it is damaged, \(place)")
    }

    /// Where the symbols say that the types are, in RAM.
    private func typesRange(_ symbols: Kallsyms) -> ClosedRange<UInt64>? {
      guard let start = symbols.address(of: "__start_BTF") else { return nil }
      var offset: UInt64?
      if symbols.addressing == .placeRelative { offset = symbols.offset }
      for (_, info) in infos where offset == nil {
        offset =
          info.symbols["kallsyms_names"].map { $0 &- symbols.namesGPA }
          ?? info.number("phys_base").map { 0xffff_ffff_8000_0000 &- $0 }
          ?? info.number("kimage_voffset")
      }
      guard let offset else { return nil }
      let end = symbols.address(of: "__stop_BTF") ?? start
      let gpa = start &- offset
      // The symbols may be anybody's.
      guard end >= start, end - start <= UInt64(BTF.maximumByteCount),
        gpa <= UInt64.max - (end - start)
      else { return nil }
      return gpa...(gpa + max(end - start, 1) - 1)
    }
  }
}
