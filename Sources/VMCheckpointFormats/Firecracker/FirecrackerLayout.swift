import VMCheckpoint

/// Where the RAM of a Firecracker snapshot is in guest-physical addresses and in its memory file.
struct FirecrackerLayout {
  /// A region's file offset is its place in the memory file.
  let layout: RAMLayout
  let fileByteCount: UInt64
  /// What of the memory file is not RAM: slots that were not plugged in.
  let unplugged: [Range<UInt64>]

  /// The layout of a guest whose memory file has `fileByteCount` bytes.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the vmstate's name.
  init(_ state: FirecrackerState, fileByteCount: UInt64) throws(VMCheckpointError) {
    guard fileByteCount > 0, fileByteCount % UInt64(Page.byteCount) == 0 else {
      throw .invalidData(
        "belongs to a memory file of \(fileByteCount) bytes, which is not a multiple of 4096"
      )
    }
    guard fileByteCount <= RAMLayout.gpaLimit else {
      throw .invalidData("belongs to a memory file that is larger than any guest's RAM")
    }
    switch state.memory {
    case .unknown:
      try self.init(Self.regions(state.machine ?? .x86, byteCount: fileByteCount))
    case .regions(let ways, let mebibytes):
      var failure: VMCheckpointError?
      for way in ways {
        do throws(VMCheckpointError) {
          try Self.check(way, mebibytes: mebibytes, fileByteCount: fileByteCount)
          try self.init(way)
          return
        } catch {
          failure = failure ?? error
        }
      }
      throw failure ?? .invalidData("has no memory regions")
    }
  }

  /// The layout that the stored RAM of a snapshot has.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the vmstate's name.
  init(_ state: FirecrackerState, stored layout: RAMLayout) throws(VMCheckpointError) {
    var found: FirecrackerLayout?
    switch state.memory {
    case .unknown: found = try? FirecrackerLayout(state, fileByteCount: layout.fileByteCount)
    case .regions(let ways, let mebibytes):
      for way in ways where found == nil {
        let byteCount = way.reduce(0 as UInt64) { $0 &+ $1.byteCount }
        guard
          (try? Self.check(way, mebibytes: mebibytes, fileByteCount: byteCount)) != nil,
          let candidate = try? FirecrackerLayout(way), candidate.layout == layout
        else { continue }
        found = candidate
      }
    }
    guard let found, found.layout == layout else {
      throw .invalidData("does not describe the RAM that is stored")
    }
    self = found
  }

  /// - Precondition: The regions are checked.
  private init(_ regions: [FirecrackerState.Region]) throws(VMCheckpointError) {
    var found: [MemoryRegion] = []
    var unplugged: [Range<UInt64>] = []
    var end: UInt64 = 0
    for region in regions {
      let slotByteCount = region.byteCount / UInt64(region.plugged.count)
      let fileOffset = region.fileOffset ?? end
      for (index, isPlugged) in region.plugged.enumerated() {
        let offset = UInt64(index) * slotByteCount
        let start = fileOffset + offset
        guard isPlugged else {
          unplugged.append(start..<(start + slotByteCount))
          continue
        }
        let gpa = region.gpa + offset
        if let last = found.last, last.endGPA == gpa, last.endFileOffset == start {
          found[found.count - 1].byteCount += slotByteCount
        } else {
          found.append(.ram(gpa: gpa, byteCount: slotByteCount, fileOffset: start))
        }
      }
      end = fileOffset + region.byteCount
    }
    do throws(VMCheckpointError) {
      layout = try RAMLayout(regions: found)
    } catch {
      throw .invalidData("is damaged: \(error.message)")
    }
    self.unplugged = unplugged
    fileByteCount = regions.reduce(0) { $0 + $1.byteCount }
  }

  /// Checks regions by themselves, and against the sizes that are known from elsewhere.
  private static func check(
    _ regions: [FirecrackerState.Region],
    mebibytes: UInt64,
    fileByteCount: UInt64
  ) throws(VMCheckpointError) {
    var sum: UInt64 = 0
    var bootByteCount: UInt64 = 0
    for region in regions {
      let name =
        "a memory region at GPA \(hexString(region.gpa)) of \(hexString(region.byteCount)) bytes"
      let (end, overflows) = region.gpa.addingReportingOverflow(region.byteCount)
      guard !overflows, end <= RAMLayout.gpaLimit else {
        throw .invalidData("is damaged: \(name) ends beyond 52-bit physical addresses")
      }
      let slotCount = UInt64(region.plugged.count)
      guard slotCount > 0, region.byteCount > 0,
        region.byteCount % (slotCount * UInt64(Page.byteCount)) == 0,
        region.gpa % UInt64(Page.byteCount) == 0
      else {
        throw .invalidData("is damaged: \(name) in \(slotCount) slots is not made of whole pages")
      }
      sum += region.byteCount
      guard sum <= RAMLayout.gpaLimit else {
        throw .invalidData("is damaged: its memory regions are larger than any guest's RAM")
      }
      if let offset = region.fileOffset {
        guard offset <= fileByteCount, region.byteCount <= fileByteCount - offset else {
          throw .invalidData(
            "is damaged: \(name) is at offset \(hexString(offset)) of a memory file of "
              + "\(fileByteCount) bytes"
          )
        }
      }
      if !region.isHotpluggable { bootByteCount += region.byteCount }
    }
    guard sum == fileByteCount else {
      throw .invalidData(
        "describes \(sum) bytes of memory, and the memory file has \(fileByteCount)",
        hint: "give the memory file that was written with it"
      )
    }
    guard mebibytes <= RAMLayout.gpaLimit >> 20, bootByteCount == mebibytes << 20 else {
      throw .invalidData(
        "is damaged: it says that memory is \(mebibytes) MiB, and its regions have \(bootByteCount) bytes"
      )
    }
  }

  /// The regions of RAM by the rule of Firecracker 1.13 and later, for a vmstate that does not show them.
  ///
  /// Source: firecracker `src/vmm/src/arch/{x86_64,aarch64}/{mod,layout}.rs` at 81b38b9d.
  private static func regions(
    _ machine: FirecrackerState.Machine,
    byteCount: UInt64
  ) -> [FirecrackerState.Region] {
    let gap64: Range<UInt64> = (256 << 30)..<(512 << 30)
    let (start, gaps): (UInt64, [Range<UInt64>]) =
      switch machine {
      case .x86: (0, [0xc000_0000..<(4 << 30), gap64])
      case .arm64: (2 << 30, [gap64])
      }
    var regions: [FirecrackerState.Region] = []
    var (next, rest) = (start, byteCount)
    for gap in gaps where rest > 0 {
      let count = min(rest, gap.lowerBound - next)
      regions.append(.init(gpa: next, byteCount: count))
      rest -= count
      next = gap.upperBound
    }
    if rest > 0 { regions.append(.init(gpa: next, byteCount: rest)) }
    return regions
  }
}
