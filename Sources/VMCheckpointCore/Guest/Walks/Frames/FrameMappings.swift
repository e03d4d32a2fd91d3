/// Goes through all page tables once, for who has which frame mapped and where.
///
/// A table that several processes share, or that leads to itself, is gone through once.
struct FrameMappings {
  private let table: FrameTable
  private let kernel: GuestKernel
  private var isVisited: Set<UInt64> = []
  /// Steps for frames of large pages that are left.
  private var budget: Int
  /// By the numbers that the table keeps.
  private(set) var tasks: [FrameOwner] = [FrameOwner()]

  /// 16 KiB.
  private static let stackPageCount: UInt64 = 4
  /// Modules are from here on, on x86.
  private static let moduleStart: UInt64 = 0xffff_ffff_c000_0000

  init(_ table: FrameTable) {
    self.table = table
    kernel = table.kernel
    budget = table.frameCount * 4 + (1 << 20)
  }

  mutating func run() throws {
    let leaders = try kernel.processLeaders()
    for leader in leaders {
      do {
        let mm = try kernel.u64(leader, "task_struct", "mm")
        guard mm != 0 else { continue }
        let owner = FrameOwner(
          name: try kernel.text(leader, "task_struct", "comm"),
          pid: try kernel.s64(leader, "task_struct", "pid")
        )
        tasks.append(owner)
        let number = table.add(owner)
        try walk(
          kernel.pageTableRoot(ofMemory: mm),
          level: kernel.pageTables.levelCount - 1,
          va: 0,
          user: UInt32(tasks.count - 1),
          owner: number
        )
      } catch let fault as GuestFault {
        kernel.note("page tables of task \(hexString(leader)): \(fault)")
      }
    }
    try walk(
      kernel.root,
      level: kernel.pageTables.levelCount - 1,
      va: 0,
      user: nil,
      owner: table.add(FrameOwner(name: "kernel"))
    )
    try markStacks(leaders)
  }

  /// - Parameter user: The task whose half of the table is gone through; `nil` for the kernel's.
  private mutating func walk(
    _ gpa: UInt64,
    level: Int,
    va: UInt64,
    user: UInt32?,
    owner: UInt32
  ) throws {
    let isTop = level == kernel.pageTables.levelCount - 1
    guard let ordinal = table.ordinal(gpa >> UInt64(Page.shift)) else { return }
    // The top one is gone through for both halves.
    if !isTop, !isVisited.insert(gpa).inserted { return }
    if table.isOpen(ordinal) || table.frameClass(ordinal) == .pageTable {
      table.set(ordinal, .pageTable)
      table.setOwner(ordinal, owner)
    }
    // On arm64 processes and the kernel have tables of their own, on x86 a half each.
    let count = isTop ? kernel.pageTables.topEntryCount : 512
    let half = kernel.pageTables.architecture == .x86 && isTop ? count / 2 : 0
    let indexes = half == 0 ? 0..<count : user != nil ? 0..<half : half..<count
    let start = min(Int(gpa & 0xfc0), Page.byteCount - 8 * count)
    for index in indexes {
      // Reading others may move the page.
      guard let page = try kernel.ram.page(gpa >> UInt64(Page.shift)) else { return }
      let word = UInt64(littleEndian: page.load(fromByteOffset: start + index * 8, as: UInt64.self))
      guard word & 1 != 0 else { continue }
      let address = va | UInt64(index) << UInt64(12 + 9 * level)
      switch kernel.pageTables.entry(word, level: level) {
      case .none: continue
      case .table(let next):
        try kernel.countRead()
        guard level > 0 else { continue }
        try walk(next, level: level - 1, va: address, user: user, owner: owner)
      case .leaf(let place):
        mark(place, UInt64(1) << UInt64(9 * level), address, user)
      }
    }
  }

  private mutating func mark(_ gpa: UInt64, _ count: UInt64, _ va: UInt64, _ user: UInt32?) {
    guard let user else { return markKernel(gpa, count, va) }
    for index in 0..<count {
      budget -= 1
      guard budget > 0 else { return }
      guard let ordinal = table.ordinal((gpa >> UInt64(Page.shift)) &+ index) else { continue }
      table.map(ordinal, task: user, va: va &+ index << UInt64(Page.shift))
    }
  }

  private mutating func markKernel(_ gpa: UInt64, _ count: UInt64, _ va: UInt64) {
    // The address's highest bits repeat the highest one that tables translate.
    let bits = UInt64(kernel.pageTables.addressBitCount)
    let va = va | ~UInt64(0) << bits
    guard let kind = kind(va, bits) else { return }
    for index in 0..<count {
      budget -= 1
      guard budget > 0 else { return }
      guard let ordinal = table.ordinal((gpa >> UInt64(Page.shift)) &+ index) else { continue }
      if table.isOpen(ordinal) { table.set(ordinal, kind) }
    }
  }

  /// What is mapped at a kernel's address; `nil` for the direct map and what is like it.
  private func kind(_ va: UInt64, _ bits: UInt64) -> FrameClass? {
    if let directMap = kernel.directMap, directMap.contains(va) { return nil }
    if kernel.image.contains(va) { return .kernelImage }
    let pages = table.pages
    let arrayByteCount = UInt64(table.frameCount) &* UInt64(pages.byteCount)
    if va >= pages.base & ~0x1f_ffff, va - (pages.base & ~0x1f_ffff) < arrayByteCount + (1 << 30) {
      return .pageArray
    }
    switch kernel.pageTables.architecture {
    case .x86:
      if va >= Self.moduleStart { return va < 0xffff_ffff_ff00_0000 ? .module : nil }
      // Behind vmalloc's terabytes are tables of the processor and mappings of the firmware.
      return kernel.directMap == nil || va >= 0xffff_fe00_0000_0000 ? nil : .vmalloc
    case .arm64:
      // The lower half of the kernel's addresses is the direct map. Modules can call the image.
      if va >> (bits - 1) & 1 == 0 { return nil }
      let start = kernel.image.lowerBound
      return va < start && start - va < 1 << 31 ? .module : .vmalloc
    }
  }

  /// Kernel stacks, which are in the vmalloc area or directly mapped.
  private mutating func markStacks(_ leaders: [UInt64]) throws {
    guard kernel.has("task_struct", "stack") else { return }
    for leader in leaders {
      do {
        for task in try kernel.threads(ofProcess: leader) {
          let stack = try kernel.u64(task, "task_struct", "stack")
          guard stack != 0 else { continue }
          let pid = try kernel.s64(task, "task_struct", "pid")
          let owner = table.add(
            FrameOwner(name: try kernel.text(task, "task_struct", "comm"), pid: pid)
          )
          for index in 0..<Self.stackPageCount {
            let gpa = try kernel.translate(stack &+ index << UInt64(Page.shift))
            guard let ordinal = table.ordinal(gpa >> UInt64(Page.shift)),
              table.isOpen(ordinal) || table.frameClass(ordinal) == .vmalloc
            else { continue }
            table.set(ordinal, .kernelStack)
            table.setOwner(ordinal, owner)
          }
        }
      } catch let fault as GuestFault {
        kernel.note("stack of task \(hexString(leader)): \(fault)")
      }
    }
  }
}
