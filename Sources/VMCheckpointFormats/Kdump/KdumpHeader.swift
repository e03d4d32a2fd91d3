import VMCheckpoint

/// The headers of a dump in the kdump-compressed format: block 0, and the sub header behind it.
///
///     64-bit  32-bit  SIZE  block 0
///          0       0     8  `KDUMP   `
///          8       8     4  version: 1 to 6
///         12      12   390  what uname says, 65 bytes each: system, node, release, version, machine, domain
///        424     412     4  how pages are compressed; 8: incomplete
///        428     416     4  block size
///        432     420     4  blocks of the sub header
///        436     424     4  blocks of both bitmaps
///        440     428     4  the number of PFNs, or its lower half
///
///     64-bit  32-bit  SINCE  sub header
///          0       0      1  the kernel's physical base, 8 bytes or 4
///          8       4      1  u32 what was left out
///         12       8      2  u32 whether this is a part of a split dump
///         32      20      3  u64 offset and size (8 bytes or 4) of VMCOREINFO's text
///         48      32      4  the same of ELF notes
///         64      44      5  the same of what was erased
///         96      72      6  u64 the number of PFNs
///
/// Sources: makedumpfile `diskdump_mod.h`, libkdumpfile `diskdump.c`, QEMU `dump/dump.c`. The 32-bit layout is that
/// of i386, where 8-byte numbers are aligned to 4.
struct KdumpHeader: Hashable {
  static let magic = Array("KDUMP   ".utf8)
  static let oldMagic = Array("DISKDUMP".utf8)
  static let blockByteCount = 4096
  /// 64 TiB of guest-physical addresses.
  static let maximumPFNCount: UInt64 = 1 << 34
  /// The status bit of a dump that makedumpfile could not write to its end.
  private static let incomplete: UInt32 = 8

  /// A run of bytes in the file.
  struct Place: Hashable {
    var offset: UInt64
    var byteCount: UInt64
  }

  var version: Int32
  var machine: ELFHeader.Machine
  /// The number of PFNs that the bitmaps are of.
  var pfnCount: UInt64
  var bitmapOffset: UInt64
  /// Of one of the two.
  var bitmapByteCount: UInt64
  /// The text, without a note's header.
  var vmcoreinfo: Place?
  var notes: Place?
  /// How many bytes describe what was erased from the dump.
  var eraseInfoByteCount: UInt64
  /// Block 0 and the first block of the sub header.
  var bytes: [UInt8]

  /// Where the page descriptors begin.
  var descriptorOffset: UInt64 { bitmapOffset + 2 * bitmapByteCount }

  /// - Throws: ``VMCheckpointError``, whose message goes on after the file's name.
  init(_ file: DumpFile) throws(VMCheckpointError) {
    let block = UInt64(Self.blockByteCount)
    let head = try file.read(at: 0, byteCount: Self.blockByteCount, place: "in its header")
    version = try Self.version(head)
    // The layouts are told apart by the block size, which is that of a page.
    let isWide = head.littleEndian(at: 428, as: UInt32.self) == block
    guard isWide || head.littleEndian(at: 416, as: UInt32.self) == block else {
      throw .invalidData(
        "has pages of \(head.littleEndian(at: 428, as: UInt32.self)) bytes, and only such of 4096 are read"
      )
    }
    let fields = isWide ? 424 : 412
    func field(_ index: Int) -> UInt64 {
      UInt64(head.littleEndian(at: fields + 4 * index, as: UInt32.self))
    }
    guard field(0) & UInt64(Self.incomplete) == 0 else {
      throw .invalidData(
        "is incomplete: makedumpfile could not write it to its end",
        hint: "dump again where there is more room"
      )
    }
    let (subBlocks, bitmapBlocks) = (field(2), field(3))
    guard (1...UInt64(Int32.max)).contains(subBlocks),
      (2...UInt64(Int32.max)).contains(bitmapBlocks), bitmapBlocks % 2 == 0
    else {
      throw .invalidData(
        "is damaged: it has \(subBlocks) blocks of a sub header and \(bitmapBlocks) of bitmaps"
      )
    }
    bitmapOffset = block * (1 + subBlocks)
    bitmapByteCount = block * (bitmapBlocks / 2)
    let sub = try file.read(
      at: block,
      byteCount: Self.blockByteCount,
      place: "in its sub header"
    )
    bytes = head + sub
    pfnCount = field(4)
    if version >= 6 {
      let wide = sub.littleEndian(at: isWide ? 96 : 72, as: UInt64.self)
      if wide > 0 { pfnCount = wide }
    }
    let mismatch = VMCheckpointError.invalidData(
      "is damaged: it has \(pfnCount) page frames, and bitmaps of \(bitmapByteCount) bytes"
    )
    guard (1...Self.maximumPFNCount).contains(pfnCount), (pfnCount - 1) / 8 < bitmapByteCount else {
      throw mismatch
    }
    try file.require(bitmapOffset, 2 * bitmapByteCount, place: "in its bitmaps")
    guard bitmapByteCount <= Self.maximumPFNCount / 8 else { throw mismatch }
    let usedByteCount = (pfnCount + 7) / 8
    for bitmap in [bitmapOffset, bitmapOffset + bitmapByteCount] {
      try file.requireNoGap(bitmap, usedByteCount, place: "in its bitmaps")
    }
    guard version < 2 || sub.littleEndian(at: isWide ? 12 : 8, as: UInt32.self) == 0 else {
      throw .invalidData(
        "is one part of a split dump",
        hint: "join the parts first, as by: makedumpfile --reassemble PART... WHOLE"
      )
    }
    let version = version
    func place(_ wide: Int, _ narrow: Int, since first: Int32) -> Place? {
      guard version >= first else { return nil }
      let offset = sub.littleEndian(at: isWide ? wide : narrow, as: UInt64.self)
      let byteCount =
        isWide
        ? sub.littleEndian(at: wide + 8, as: UInt64.self)
        : UInt64(sub.littleEndian(at: narrow + 8, as: UInt32.self))
      return offset == 0 || byteCount == 0 ? nil : Place(offset: offset, byteCount: byteCount)
    }
    vmcoreinfo = place(32, 20, since: 3)
    notes = place(48, 32, since: 4)
    eraseInfoByteCount = place(64, 44, since: 5)?.byteCount ?? 0
    machine = Self.machine(head, isWide: isWide)
  }

  private static func version(_ head: [UInt8]) throws(VMCheckpointError) -> Int32 {
    guard !head.starts(with: oldMagic) else {
      throw .invalidData("is of the old diskdump, and not a kdump")
    }
    guard head.starts(with: magic) else { throw .invalidData("does not begin like a kdump") }
    let version = head.littleEndian(at: 8, as: Int32.self)
    guard !(1...6).contains(version.byteSwapped) else {
      throw .invalidData("is of a big-endian machine")
    }
    guard (1...6).contains(version) else {
      throw .invalidData("has the unknown version \(version)")
    }
    return version
  }

  /// QEMU and makedumpfile may leave the name out, or not know it.
  private static func machine(_ head: [UInt8], isWide: Bool) -> ELFHeader.Machine {
    let name = String(decoding: head[(12 + 4 * 65)...].prefix(65).prefix { $0 != 0 }, as: UTF8.self)
    return switch name {
    case "aarch64", "arm64": .arm64
    case "i386", "i486", "i586", "i686": .i386
    default: isWide ? .x86_64 : .i386
    }
  }
}
