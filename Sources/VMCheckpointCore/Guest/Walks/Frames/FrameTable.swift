import Glibc

/// What each page frame of a guest is used for, and by whom: the kernel's page array, the page tables of all
/// processes and those of the kernel, read once.
package final class FrameTable {
  /// 256 GiB of RAM.
  private static let maximumFrameCount: UInt64 = 1 << 26
  private static let maximumOrder: UInt64 = 20

  /// The frames in ascending order, as runs with the number of frames before each.
  private let regions: [(firstPFN: UInt64, endPFN: UInt64, ordinal: Int)]
  package let frameCount: Int
  /// What was noted while the table was made.
  package private(set) var note: String?

  let kernel: GuestKernel
  let pages: PageStructure
  private let classes: UnsafeMutablePointer<UInt8>
  private let owners: UnsafeMutablePointer<UInt32>
  private let tasks: UnsafeMutablePointer<UInt32>
  private let addresses: UnsafeMutablePointer<UInt64>
  private var ownerList: [FrameOwner] = [FrameOwner()]
  private var taskList: [FrameOwner] = [FrameOwner()]

  /// - Throws: ``GuestFault`` when the kernel's page array cannot be found.
  package init(_ kernel: GuestKernel) throws {
    self.kernel = kernel
    pages = try PageStructure(kernel)
    var regions: [(UInt64, UInt64, Int)] = []
    var count: UInt64 = 0
    for region in kernel.ram.layout.regions {
      let first = region.firstPFN.rawValue
      regions.append((first, first + region.pageCount, Int(count)))
      count += region.pageCount
    }
    guard count <= Self.maximumFrameCount else {
      throw GuestFault.broken("\(count) frames are more than the owners of which can be looked up")
    }
    self.regions = regions
    frameCount = Int(count)
    classes = try Self.zeros(frameCount)
    owners = try Self.zeros(frameCount)
    tasks = try Self.zeros(frameCount)
    addresses = try Self.zeros(frameCount)
    try fill()
  }

  deinit {
    free(classes)
    free(owners)
    free(tasks)
    free(addresses)
  }

  /// Memory that costs nothing until it is used.
  private static func zeros<Value: BitwiseCopyable>(
    _ count: Int
  ) throws -> UnsafeMutablePointer<Value> {
    guard let memory = calloc(max(count, 1), MemoryLayout<Value>.stride) else {
      throw VMCheckpointError.outOfMemory(byteCount: count * MemoryLayout<Value>.stride)
    }
    return memory.bindMemory(to: Value.self, capacity: max(count, 1))
  }

  // MARK: Frames

  /// The frame's place in the table; `nil` when it is not RAM.
  @inline(__always)
  package func ordinal(_ pfn: UInt64) -> Int? {
    if regions.count == 1 {
      let region = regions[0]
      return pfn >= region.firstPFN && pfn < region.endPFN ? Int(pfn - region.firstPFN) : nil
    }
    var (low, high) = (0, regions.count)
    while low < high {
      let middle = (low + high) / 2
      if regions[middle].endPFN <= pfn { low = middle + 1 } else { high = middle }
    }
    guard low < regions.count, pfn >= regions[low].firstPFN else { return nil }
    return regions[low].ordinal + Int(pfn - regions[low].firstPFN)
  }

  /// The first frame from `pfn` on that is RAM.
  package func frame(from pfn: UInt64) -> UInt64? {
    for region in regions where pfn < region.endPFN { return max(pfn, region.firstPFN) }
    return nil
  }

  package func frameClass(_ ordinal: Int) -> FrameClass {
    FrameClass(rawValue: classes[ordinal]) ?? .other
  }

  package func owner(_ ordinal: Int) -> FrameOwner { ownerList[Int(owners[ordinal])] }

  /// The owner's name, process and file, of anonymous memory those of the process that has it mapped.
  package func wholeOwner(_ ordinal: Int) -> FrameOwner {
    var owner = owner(ordinal)
    guard let task = mapping(ordinal)?.task else { return owner }
    if owner.pid == nil { owner.pid = task.pid }
    if frameClass(ordinal) == .anonymous { owner.name = task.name }
    return owner
  }

  /// Equal for frames whose class and owner are the same, whoever has a file's page mapped.
  package func ownerKey(_ ordinal: Int) -> UInt64 {
    let kind = frameClass(ordinal)
    let task = kind == .file ? 0 : UInt64(tasks[ordinal])
    return UInt64(kind.rawValue) << 56 | UInt64(owners[ordinal]) << 28 ^ task
  }

  /// The process that has the frame mapped, or the first of several, and where.
  package func mapping(_ ordinal: Int) -> (task: FrameOwner, va: UInt64)? {
    let task = Int(tasks[ordinal])
    return task == 0 ? nil : (taskList[task], addresses[ordinal])
  }

  /// What the page array says of the frame: its number of users, flags, and the place in its file.
  package func details(
    _ pfn: UInt64
  ) throws -> (references: Int32, flags: String, index: UInt64)? {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: pages.byteCount, alignment: 8)
    defer { buffer.deallocate() }
    func entry(_ pfn: UInt64) throws -> PageStructure.Entry? {
      do {
        try kernel.read(pages.address(pfn), into: buffer)
      } catch is GuestFault {
        return nil
      }
      return pages.entry(buffer.baseAddress!)
    }
    guard let own = try entry(pfn) else { return nil }
    let names = pages.flagNames.filter { own.flags & $0.bit != 0 }.map(\.name)
    var index = own.index
    if own.isTail, let head = pages.headPFN(own, pfn), let first = try entry(head) {
      index = first.index &+ (pfn - head)
    }
    return (own.referenceCount, names.joined(separator: ","), index)
  }

  // MARK: Filling

  private func fill() throws {
    var owners = FrameOwners(kernel)
    try readPageArray(&owners)
    ownerList = owners.list
    var walk = FrameMappings(self)
    try walk.run()
    taskList = walk.tasks
    if let image = ordinal((kernel.image.lowerBound &- kernel.imageOffset) >> UInt64(Page.shift)) {
      let count = Int((kernel.image.upperBound - kernel.image.lowerBound + 4095) >> 12)
      for ordinal in image..<min(image + count, frameCount) where isOpen(ordinal) {
        set(ordinal, .kernelImage)
      }
    }
    try markPerCPU()
    noteUnknown()
    note = kernel.takeNotes()
  }

  /// Of RAM that is cut off, or a page array that is damaged, most frames are unknown.
  private func noteUnknown() {
    var count = 0
    for ordinal in 0..<frameCount where frameClass(ordinal) == .unknown { count += 1 }
    guard count > frameCount / Self.unknownShare else { return }
    kernel.note(
      "of \(count) of \(frameCount) frames the kernel's page array has no entry that could be read"
    )
  }

  /// One in so many frames may be unknown without a word: the kernel has no entries for holes in RAM.
  private static let unknownShare = 20

  /// Whether nothing but a flag says what the frame is for.
  func isOpen(_ ordinal: Int) -> Bool {
    let known = frameClass(ordinal)
    return known == .other || known == .reserved || known == .unknown
  }

  func set(_ ordinal: Int, _ value: FrameClass) { classes[ordinal] = value.rawValue }

  /// The owner's number in ``ownerList``.
  func add(_ owner: FrameOwner) -> UInt32 {
    ownerList.append(owner)
    return UInt32(ownerList.count - 1)
  }

  func setOwner(_ ordinal: Int, _ number: UInt32) { owners[ordinal] = number }

  /// Notes that a process has the frame mapped, unless another was noted before.
  func map(_ ordinal: Int, task: UInt32, va: UInt64) {
    guard tasks[ordinal] == 0 else { return }
    tasks[ordinal] = task
    addresses[ordinal] = va
  }

  private static var batchCount: Int { 64 }

  private func readPageArray(_ owners: inout FrameOwners) throws {
    let size = pages.byteCount
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: size * Self.batchCount,
      alignment: 64
    )
    defer { buffer.deallocate() }
    // Frames before this one are free, by the order of a free block.
    var freeEnd: UInt64 = 0
    for region in regions {
      var pfn = region.firstPFN
      while pfn < region.endPFN {
        // RAM bounds this, and so the budget is for what owners take.
        if pfn & 0x3_ffff == 0 { kernel.renewBudget() }
        // Up to the next multiple, so that a batch is in one page of the array.
        let count = min(
          Self.batchCount - Int(pfn % UInt64(Self.batchCount)),
          Int(region.endPFN - pfn)
        )
        let ordinal = region.ordinal + Int(pfn - region.firstPFN)
        do {
          try kernel.read(
            pages.address(pfn),
            into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<(size * count)])
          )
        } catch is GuestFault {
          for index in 0..<count { set(ordinal + index, .unknown) }
          pfn += UInt64(count)
          continue
        }
        for index in 0..<count {
          try classify(
            pages.entry(buffer.baseAddress! + index * size),
            pfn + UInt64(index),
            ordinal + index,
            &freeEnd,
            &owners
          )
        }
        pfn += UInt64(count)
      }
    }
  }

  @inline(__always)
  private func classify(
    _ entry: PageStructure.Entry,
    _ pfn: UInt64,
    _ ordinal: Int,
    _ freeEnd: inout UInt64,
    _ owners: inout FrameOwners
  ) throws {
    if entry.isTail, let head = pages.headPFN(entry, pfn), head < pfn,
      let first = self.ordinal(head)
    {
      classes[ordinal] = classes[first]
      self.owners[ordinal] = self.owners[first]
      return
    }
    if pages.isReserved(entry) { return set(ordinal, .reserved) }
    if pages.isBuddy(entry) {
      let order = entry.privateWord & 0xff
      if order <= Self.maximumOrder { freeEnd = max(freeEnd, pfn + 1 << order) }
      return set(ordinal, .free)
    }
    if pages.isSlab(entry) {
      set(ordinal, .slab)
      self.owners[ordinal] = try owners.slabCache(entry.slabCache)
      return
    }
    if pages.isLargeKmalloc(entry) {
      set(ordinal, .slab)
      self.owners[ordinal] = owners.largeKmalloc()
      return
    }
    if pages.isTable(entry) { return set(ordinal, .pageTable) }
    if entry.mapping != 0, entry.mapping & 1 != 0 {
      // 1 is anonymous memory, 3 what several processes share by content.
      if entry.referenceCount > 0 { return set(ordinal, .anonymous) }
    } else if entry.mapping != 0, entry.mapping & 3 == 0, entry.referenceCount > 0,
      let owner = try owners.file(entry.mapping)
    {
      set(ordinal, .file)
      self.owners[ordinal] = owner
      return
    }
    if pfn < freeEnd || entry.referenceCount == 0 && entry.mapping == 0 {
      return set(ordinal, .free)
    }
  }

  /// The first chunk of per-CPU memory, which the kernel takes before its allocator works.
  private func markPerCPU() throws {
    do {
      guard let base = kernel.symbols.address(of: "pcpu_base_addr"),
        let unit = kernel.symbols.address(of: "pcpu_unit_size"),
        let count = kernel.symbols.address(of: "pcpu_nr_units")
      else { return }
      let start = try kernel.u64(base)
      let byteCount = UInt64(try kernel.u32(unit)) &* UInt64(try kernel.u32(count))
      guard byteCount < 1 << 36 else { return }
      for offset in stride(from: UInt64(0), to: byteCount, by: Page.byteCount) {
        let gpa = try kernel.translate(start &+ offset)
        if let ordinal = ordinal(gpa >> UInt64(Page.shift)), isOpen(ordinal) {
          set(ordinal, .perCPU)
        }
      }
    } catch let fault as GuestFault {
      kernel.note("per-CPU memory: \(fault)")
    }
  }
}
