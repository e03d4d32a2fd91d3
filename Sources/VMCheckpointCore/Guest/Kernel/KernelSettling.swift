/// Makes a kernel of symbols and types that may belong together: finds the distance from virtual addresses to
/// places in RAM, page tables and direct map, and checks each by another.
struct KernelSettling {
  private let ram: any GuestRAM
  private let kallsyms: Kallsyms
  private let types: BTF
  private let typesRange: Range<UInt64>
  private let info: VMCoreInfo?

  init(
    _ ram: any GuestRAM,
    _ kallsyms: Kallsyms,
    _ types: BTF,
    _ typesRange: Range<UInt64>,
    _ info: VMCoreInfo?
  ) {
    self.ram = ram
    self.kallsyms = kallsyms
    self.types = types
    self.typesRange = typesRange
    self.info = info
  }

  /// A kernel's image is smaller than this.
  private static let maximumImageByteCount: UInt64 = 1 << 30
  private static let maximumProcessorCount: UInt32 = 8192
  private static let bannerBeginning = Array("Linux version ".utf8)
  private static let firstTaskName = Array("swapper".utf8)
  static let tablesDoNotMap = GuestFault.broken("the kernel's page tables do not map its image")

  /// - Throws: ``GuestFault`` when they do not fit each other.
  func kernel() throws -> GuestKernel {
    let symbols = KernelSymbols(kallsyms, additions: info?.symbols ?? [:])
    let offset = try imageOffset()
    kallsyms.offset = kallsyms.addressing == .placeRelative ? offset : 0
    let architecture = try architecture(symbols)
    if symbols.address(of: "init_task") == nil {
      let exported = ExportedSymbols(ram, around: kallsyms.namesGPA, imageOffset: offset)
      try exported.add(to: symbols)
      if symbols.address(of: "init_task") == nil { try exported.addFirstTask(to: symbols, types) }
    }
    let firstTask = try firstTask(symbols, offset)
    try checkBanner(symbols, offset)

    guard
      let top = symbols.address(of: "init_top_pgt") ?? symbols.address(of: "swapper_pg_dir")
    else { throw GuestFault.noSymbol("swapper_pg_dir") }
    let root = top &- offset
    let start = symbols.address(of: "_stext") ?? symbols.address(of: "_text")
    let anchors = [start, firstTask, kallsyms.namesGPA &+ offset].compactMap { $0 }
    let tables = try pageTables(architecture, root, anchors, offset)
    return GuestKernel(
      ram: ram,
      symbols: symbols,
      types: types,
      typesRange: typesRange,
      pageTables: tables,
      image: try image(symbols, offset),
      imageOffset: offset,
      root: root,
      directMap: try directMap(symbols, tables, root, offset, task: firstTask),
      perCPUOffsets: try perCPUOffsets(symbols, offset),
      release: try release(symbols, offset),
      info: info
    )
  }

  // MARK: Places

  /// What virtual addresses of the image have more than places in RAM.
  private func imageOffset() throws -> UInt64 {
    if kallsyms.addressing == .placeRelative {
      if let place = kallsyms.address(of: "init_task"),
        let leader = types.field("task_struct", "group_leader")
      {
        // The first task leads its own group: there is its virtual address.
        let raw = place &- kallsyms.offset
        guard let address = try ram.number(raw &+ UInt64(leader.offset), as: UInt64.self) else {
          throw GuestFault.notRAM(raw)
        }
        return address &- raw
      }
    } else if let start = kallsyms.address(of: "__start_BTF") {
      return start &- typesRange.lowerBound
    }
    guard let info else { throw GuestFault.noSymbol("__start_BTF") }
    if let names = info.symbols["kallsyms_names"] { return names &- kallsyms.namesGPA }
    if let base = info.number("phys_base") { return 0xffff_ffff_8000_0000 &- base }
    if let offset = info.number("kimage_voffset") { return offset }
    throw GuestFault.noSymbol("kallsyms_names")
  }

  private func architecture(_ symbols: KernelSymbols) throws -> PageTables.Architecture {
    for name in ["x86_64_start_kernel", "__switch_to_asm", "init_top_pgt", "page_offset_base"]
    where symbols.address(of: name) != nil {
      return .x86
    }
    for name in ["cpu_switch_to", "cpu_do_switch_mm", "kimage_voffset"]
    where symbols.address(of: name) != nil {
      return .arm64
    }
    if info?.number("kimage_voffset") != nil { return .arm64 }
    throw GuestFault.broken("the kernel's processor is not x86-64 or arm64")
  }

  private func pageTables(
    _ architecture: PageTables.Architecture,
    _ root: UInt64,
    _ anchors: [UInt64],
    _ offset: UInt64
  ) throws -> PageTables {
    for levelCount in architecture == .x86 ? [4, 5] : [4, 3, 5] {
      let tables = PageTables(architecture, levelCount: levelCount)
      let isRight = try anchors.allSatisfy {
        try tables.translate($0, root: root, in: ram) == $0 &- offset
      }
      if isRight { return tables }
    }
    throw Self.tablesDoNotMap
  }

  private func image(_ symbols: KernelSymbols, _ offset: UInt64) throws -> Range<UInt64> {
    guard let start = symbols.address(of: "_text") ?? symbols.address(of: "_stext") else {
      throw GuestFault.noSymbol("_text")
    }
    // Without the symbol of its end, what is behind the tables is looked up in page tables.
    let end =
      symbols.address(of: "_end") ?? (max(kallsyms.namesGPA, typesRange.upperBound) &+ offset)
    guard start < end, end - start < Self.maximumImageByteCount, start >> 47 == 0x1ffff else {
      throw GuestFault.broken("the kernel's image has impossible bounds")
    }
    return start..<end
  }

  private func directMap(
    _ symbols: KernelSymbols,
    _ tables: PageTables,
    _ root: UInt64,
    _ offset: UInt64,
    task: UInt64
  ) throws -> Range<UInt64>? {
    guard tables.architecture == .x86, let end = ram.layout.regions.last?.endGPA else { return nil }
    var base: UInt64 = tables.levelCount == 4 ? 0xffff_8880_0000_0000 : 0xff11_0000_0000_0000
    if let place = symbols.address(of: "page_offset_base"),
      let value = try ram.number(place &- offset, as: UInt64.self)
    {
      base = value
    }
    let gpa = task &- offset
    guard base >> 56 == 0xff, base & UInt64(Page.byteCount - 1) == 0,
      base <= UInt64.max - end,
      try tables.translate(base &+ gpa, root: root, in: ram) == gpa
    else { return nil }
    return base..<(base + end)
  }

  // MARK: Checks

  /// The first task's virtual address, its name compared.
  private func firstTask(_ symbols: KernelSymbols, _ offset: UInt64) throws -> UInt64 {
    guard let comm = types.field("task_struct", "comm") else {
      throw GuestFault.noMember("task_struct.comm")
    }
    guard let task = symbols.address(of: "init_task") else {
      throw GuestFault.noSymbol("init_task")
    }
    let place = task &- offset &+ UInt64(comm.offset)
    guard let name = try ram.bytes(place, count: Self.firstTaskName.count) else {
      throw GuestFault.notRAM(place)
    }
    guard name == Self.firstTaskName else {
      throw GuestFault.broken("the kernel's first task has another name")
    }
    return task
  }

  private func checkBanner(_ symbols: KernelSymbols, _ offset: UInt64) throws {
    guard let banner = symbols.address(of: "linux_banner") else { return }
    let place = banner &- offset
    guard let text = try ram.bytes(place, count: Self.bannerBeginning.count) else {
      throw GuestFault.notRAM(place)
    }
    guard text == Self.bannerBeginning else {
      throw GuestFault.broken("the kernel's banner is not where its symbol is")
    }
  }

  // MARK: Facts

  private func perCPUOffsets(_ symbols: KernelSymbols, _ offset: UInt64) throws -> [UInt64] {
    guard let table = symbols.address(of: "__per_cpu_offset") else { return [0] }
    var count: UInt32 = 1
    if let place = symbols.address(of: "nr_cpu_ids"),
      let value = try ram.number(place &- offset, as: UInt32.self),
      (1...Self.maximumProcessorCount).contains(value)
    {
      count = value
    }
    return try (0..<UInt64(count)).map {
      try ram.number(table &- offset &+ 8 &* $0, as: UInt64.self) ?? 0
    }
  }

  private func release(_ symbols: KernelSymbols, _ offset: UInt64) throws -> String {
    guard let names = symbols.address(of: "init_uts_ns"),
      let release = types.field("uts_namespace", "name.release"),
      let bytes = try ram.bytes(names &- offset &+ UInt64(release.offset), count: 64)
    else { return info?.release ?? "" }
    return GuestText.escaped(bytes.prefix { $0 != 0 })
  }
}
