import VMCheckpoint

/// What a VM's state in a file of VMware, `.vmss` or `.vmsn`, says of its RAM.
///
///     header   u32 magic, u32 version, u32 number of groups
///     a group  a name in 64 bytes, u64 offset of its tags, u64 their size
///     a tag    u8 flags, u8 length of the name; the name; up to three u32 indices; a value
///     flags    bits 7-6: how many indices; bits 5-0: how many bytes the value has, 63 a block, 62 one that is
///              compressed
///     a block  u64 size in the file, u64 size in memory, u16 padding; the padding; the bytes
///
/// Tags end with two zeros. All numbers are little-endian. The group `memory` has tags for each run of RAM, unless RAM is
/// one run from address 0: `regionPPN`, `regionPageNum` and `regionSize` are its first page's frame number,
/// its place in RAM's file, and its length, all in pages. RAM itself is a block `Memory`, or in a file `.vmem`.
///
/// Sources: crash `vmware_vmss.{c,h}` by VMware, volatility3 `framework/layers/vmware.py`.
struct VMwareState {
  /// A run of RAM, in pages.
  struct Region {
    var firstPFN: UInt64?
    var firstPageIndex: UInt64?
    var pageCount: UInt64?
  }

  /// The first bytes of a state. Bit 0 of the byte differs by what became of the checkpoint.
  static let magics: [[UInt8]] = [
    [0xd1, 0xba, 0xd1, 0xba], [0xd2, 0xba, 0xd2, 0xba], [0xd2, 0xbe, 0xd2, 0xbe],
    [0xd3, 0xbe, 0xd3, 0xbe],
  ]
  /// Of products whose numbers have 32 bits.
  static let oldMagics: [[UInt8]] = [[0xd0, 0xbe, 0xd0, 0xbe], [0xd0, 0xbe, 0xd2, 0xbe]]

  private static let headerByteCount = 12
  private static let groupByteCount = 80
  /// Real states have some 70 groups, and in `memory` some 20 tags.
  private static let maximumGroupCount: UInt32 = 4096
  private static let maximumTagCount = 65536

  private var regions: [Int: Region] = [:]
  /// 0 or `nil`: RAM is one run.
  private var regionCount: Int?
  /// How many bytes the group `memory` has by the list of groups, and by its tags.
  private var statedByteCount: UInt64 = 0
  private var byteCount: UInt64 = 0
  /// RAM in this very file.
  private(set) var memory: (fileOffset: UInt64, byteCount: UInt64)?

  /// - Throws: ``VMCheckpointError``, whose message goes on after the file's name.
  init(_ file: DumpFile) throws(VMCheckpointError) {
    let header = try file.read(at: 0, byteCount: Self.headerByteCount, place: "in its header")
    guard !Self.oldMagics.contains(Array(header[..<4])) else {
      throw .invalidData("is of a VMware product from before 64-bit states, and cannot be read")
    }
    guard Self.magics.contains(Array(header[..<4])) else {
      throw .invalidData("is not a VM's state of VMware")
    }
    let count = header.littleEndian(at: 8, as: UInt32.self)
    guard count <= Self.maximumGroupCount else {
      throw .invalidData("is damaged: it has \(count) groups, which are too many")
    }
    let groups = try file.read(
      at: UInt64(Self.headerByteCount),
      byteCount: Int(count) * Self.groupByteCount,
      place: "in its groups"
    )
    for index in 0..<Int(count) {
      let start = index * Self.groupByteCount
      guard groups[start..<(start + 64)].prefix(while: { $0 != 0 }).elementsEqual("memory".utf8)
      else { continue }
      let offset = groups.littleEndian(at: start + 64, as: UInt64.self)
      guard offset >= UInt64(Self.headerByteCount + groups.count) else {
        throw .invalidData(
          "is damaged: its group \"memory\" is at offset \(offset), which is in its list of groups"
        )
      }
      try readMemory(file, at: offset)
      statedByteCount = groups.littleEndian(at: start + 72, as: UInt64.self)
      return
    }
    throw .invalidData("does not describe RAM: it has no group \"memory\"")
  }

  /// A guest with more RAM has a hole in it, whose end is at 4 GiB.
  private static let maximumByteCountWithoutHole: UInt64 = 3 << 30

  /// What is not as it should be, and does not show where RAM is; each goes on after the state's name.
  var warnings: [String] {
    var result: [String] = []
    if statedByteCount > 0, statedByteCount != byteCount {
      result.append(
        "its group \"memory\" has \(statedByteCount) bytes by the list of groups, and \(byteCount) by its tags; "
          + "it may be damaged"
      )
    }
    if regionCount == nil {
      result.append("it does not say where RAM is: RAM is taken for one run from address 0")
    }
    return result
  }

  /// Where RAM is in its file, which has `byteCount` bytes from `fileOffset` on.
  ///
  /// - Throws: ``VMCheckpointError``, whose message goes on after the state's name.
  func loads(fileOffset: UInt64, byteCount: UInt64) throws(VMCheckpointError) -> [MemoryLoad] {
    guard let regionCount, regionCount > 0 else {
      guard byteCount <= Self.maximumByteCountWithoutHole else {
        throw .invalidData(
          "does not say where RAM is, which has \(byteCount) bytes: more than 3 GiB are not one run",
          hint: "give the state that was written with it; raw:PATH takes its regions from --region"
        )
      }
      return [
        MemoryLoad(
          gpa: 0,
          fileOffset: fileOffset,
          fileByteCount: byteCount,
          memoryByteCount: byteCount
        )
      ]
    }
    var loads: [MemoryLoad] = []
    for index in 0..<regionCount {
      guard let region = regions[index], let pfn = region.firstPFN,
        let pageIndex = region.firstPageIndex, let pageCount = region.pageCount
      else { throw .invalidData("is damaged: region \(index) of RAM is not described in full") }
      let limit = RAMLayout.gpaLimit >> UInt64(Page.shift)
      guard pageCount > 0, pageCount <= limit, pfn <= limit - pageCount else {
        throw .invalidData(
          "is damaged: region \(index) of RAM has \(pageCount) pages from page frame \(hexString(pfn)) on"
        )
      }
      let pages = byteCount >> UInt64(Page.shift)
      guard pageCount <= pages, pageIndex <= pages - pageCount else {
        throw .invalidData(
          "does not fit its RAM, which has \(pages) pages: region \(index) ends at page \(pageIndex &+ pageCount)",
          hint: "give the state and the RAM of the same moment"
        )
      }
      let length = pageCount << UInt64(Page.shift)
      loads.append(
        MemoryLoad(
          gpa: pfn << UInt64(Page.shift),
          fileOffset: fileOffset + pageIndex << UInt64(Page.shift),
          fileByteCount: length,
          memoryByteCount: length
        )
      )
    }
    try MemoryLoad.requireApart(loads, noun: "region", firstNumber: 0)
    let order = loads.indices.sorted { loads[$0].fileOffset < loads[$1].fileOffset }
    for (lower, upper) in zip(order, order.dropFirst())
    where loads[lower].endFileOffset > loads[upper].fileOffset {
      throw .invalidData(
        "is damaged: region \(lower) and region \(upper) both have the page of RAM at offset "
          + hexString(loads[upper].fileOffset)
      )
    }
    return loads
  }

  /// Reads the tags of the group `memory`.
  private mutating func readMemory(
    _ file: DumpFile,
    at position: UInt64
  ) throws(VMCheckpointError) {
    var offset = position
    for number in 0..<Self.maximumTagCount {
      let place = "in tag \(number) of its group \"memory\""
      func take(_ byteCount: Int) throws(VMCheckpointError) -> [UInt8] {
        let bytes = try file.read(at: offset, byteCount: byteCount, place: place)
        offset += UInt64(byteCount)
        return bytes
      }
      let head = try take(2)
      guard head != [0, 0] else {
        byteCount = offset - position
        return
      }
      let name = String(decoding: try take(Int(head[1])), as: UTF8.self)
      var indices: [UInt64] = []
      for _ in 0..<(head[0] >> 6) {
        indices.append(UInt64(try take(4).littleEndian(at: 0, as: UInt32.self)))
      }
      let size = head[0] & 0x3f
      if size >= 62 {
        let block = try take(18)
        let stored = block.littleEndian(at: 0, as: UInt64.self)
        offset += UInt64(block.littleEndian(at: 16, as: UInt16.self))
        try file.require(offset, stored, place: place)
        if name == "Memory" {
          guard size == 63, block.littleEndian(at: 8, as: UInt64.self) == stored else {
            throw .invalidData(
              "has its RAM compressed, and cannot be read",
              hint: "suspend the VM without compression, or give a state with a .vmem file"
            )
          }
          memory = (offset, stored)
        }
        offset += stored
        continue
      }
      let value = try take(Int(size)).prefix(8).reversed().reduce(0 as UInt64) {
        $0 << 8 | UInt64($1)
      }
      try add(name, indices, value)
    }
    throw .invalidData("is damaged: its group \"memory\" has no end")
  }

  private mutating func add(
    _ name: String,
    _ indices: [UInt64],
    _ value: UInt64
  ) throws(VMCheckpointError) {
    if name == "regionsCount" {
      guard value <= UInt64(RAMLayout.maximumRegionCount), regionCount == nil else {
        throw .invalidData("is damaged: it has \(value) regions of RAM, or says so twice")
      }
      regionCount = Int(value)
      return
    }
    // Others than those that are counted do not matter, and may come before the count.
    guard let index = indices.first, index < UInt64(RAMLayout.maximumRegionCount) else { return }
    switch name {
    case "regionPPN": regions[Int(index), default: Region()].firstPFN = value
    case "regionPageNum": regions[Int(index), default: Region()].firstPageIndex = value
    case "regionSize": regions[Int(index), default: Region()].pageCount = value
    default: break
    }
  }
}
