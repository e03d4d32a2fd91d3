/// Writes a dump in the kdump-compressed format byte by byte, without the library's help.
package struct KdumpBuilder {
  /// A page in the file.
  package struct StoredPage {
    /// As it is in the file.
    package var data: [UInt8]
    /// 0 plain, 1 zlib, 2 LZO, 4 Snappy, 0x20 zstd.
    package var flags: UInt32 = 0
    /// What the descriptor says, where that is not true.
    package var offset: UInt64?
    package var byteCount: UInt32?

    package init(_ data: [UInt8], flags: UInt32 = 0) {
      self.data = data
      self.flags = flags
    }
  }

  package var version: UInt32 = 6
  package var signature = "KDUMP   "
  /// Whether numbers of the machine's word size have 64 bits.
  package var isWide = true
  package var machine = "x86_64"
  package var status: UInt32 = 4
  package var blockByteCount: UInt32 = 4096
  package var pfnCount: UInt64 = 64
  package var split: UInt32 = 0
  /// Fields that do not say what is there.
  package var subHeaderBlocksField: UInt32?
  package var bitmapBlocksField: UInt32?
  package var wideCountField: UInt64?
  package var countField: UInt32?
  package var notes: [UInt8] = []
  package var notesByteCountField: UInt64?
  package var vmcoreinfo: [UInt8] = []
  package var eraseInfo: [UInt8] = []
  package var pages: [UInt64: StoredPage] = [:]
  /// Pages that exist and are not in the file.
  package var excluded: Set<UInt64> = []

  package init() {}

  /// Adds a page, compressed with Snappy where that makes it smaller.
  package mutating func page(_ pfn: UInt64, _ data: [UInt8]) {
    let compressed = SnappyModel.compress(data)
    pages[pfn] =
      compressed.count < data.count ? StoredPage(compressed, flags: 4) : StoredPage(data)
  }

  private var extras: [UInt8] { notes + vmcoreinfo + eraseInfo }
  private var subBlocks: Int { 1 + (extras.count + 4095) / 4096 }
  private var bitmapBlocks: Int { Int((pfnCount + 32767) / 32768) }

  /// Where the first bitmap begins.
  package var bitmapOffset: Int { 4096 * (1 + subBlocks) }
  /// Where the first page descriptor begins.
  package var descriptorOffset: Int { bitmapOffset + 2 * 4096 * bitmapBlocks }
  /// Where the first page's data begins.
  package var dataOffset: Int { descriptorOffset + 24 * pages.count }

  /// Where the data of the page at `index` in the order of PFNs begins.
  package func pageOffset(_ index: Int) -> Int {
    let earlier = pages.sorted { $0.key < $1.key }.prefix(index)
    return dataOffset + earlier.reduce(0) { $0 + $1.value.data.count }
  }

  package var bytes: [UInt8] {
    var bytes = Array(signature.utf8)
    func number(_ value: some FixedWidthInteger) {
      withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
    }
    func word(_ value: UInt64) {
      if isWide { number(value) } else { number(UInt32(truncatingIfNeeded: value)) }
    }
    func pad(to count: Int) { bytes += [UInt8](repeating: 0, count: count - bytes.count) }
    number(version)
    pad(to: 12 + 4 * 65)
    bytes += Array(machine.utf8)
    pad(to: isWide ? 424 : 412)
    number(status)
    number(blockByteCount)
    number(subHeaderBlocksField ?? UInt32(subBlocks))
    number(bitmapBlocksField ?? UInt32(2 * bitmapBlocks))
    number(countField ?? UInt32(truncatingIfNeeded: pfnCount))
    pad(to: 4096)
    word(0)
    number(UInt32(31))
    number(split)
    word(0)
    word(pfnCount)
    var offset = UInt64(8192)
    for (contents, stated, first) in [
      (vmcoreinfo, nil, 3), (notes, notesByteCountField, 4), (eraseInfo, nil, 5),
    ] {
      let isThere = version >= UInt32(first) && (!contents.isEmpty || stated != nil)
      number(isThere ? offset : 0)
      word(isThere ? stated ?? UInt64(contents.count) : 0)
      offset += UInt64(contents.count)
    }
    if version >= 6 {
      number(UInt64(0))
      number(UInt64(0))
      number(wideCountField ?? pfnCount)
    }
    pad(to: 8192)
    bytes += vmcoreinfo + notes + eraseInfo
    pad(to: bitmapOffset)
    bytes += bitmap(excluded.union(pages.keys)) + bitmap(Set(pages.keys))
    let stored = pages.sorted { $0.key < $1.key }.map(\.value)
    var dataEnd = UInt64(dataOffset)
    for page in stored {
      number(page.offset ?? dataEnd)
      number(page.byteCount ?? UInt32(page.data.count))
      number(page.flags)
      number(UInt64(0))
      dataEnd += UInt64(page.data.count)
    }
    for page in stored { bytes += page.data }
    return bytes
  }

  private func bitmap(_ pfns: Set<UInt64>) -> [UInt8] {
    var bits = [UInt8](repeating: 0, count: 4096 * bitmapBlocks)
    for pfn in pfns { bits[Int(pfn / 8)] |= 1 << UInt8(pfn % 8) }
    return bits
  }

  /// A piece of a flattened dump.
  package static func piece(_ offset: Int64, _ byteCount: Int64, _ data: [UInt8]) -> [UInt8] {
    [offset, byteCount].flatMap { value in
      (0..<8).map { UInt8(truncatingIfNeeded: value >> (56 - 8 * $0)) }
    } + data
  }

  /// What a flattened dump begins with.
  package static func flattenedHead(type: UInt8 = 1) -> [UInt8] {
    let head = Array("makedumpfile\0\0\0\0".utf8)
    let numbers: [UInt8] = [0, 0, 0, 0, 0, 0, 0, type, 0, 0, 0, 0, 0, 0, 0, 1]
    return head + numbers + [UInt8](repeating: 0, count: 4096 - 32)
  }

  /// The same dump flattened, in pieces of `pieceByteCount` bytes, the last ones first. Some are there twice:
  /// the first time with other bytes.
  package static func flattened(_ file: [UInt8], pieceByteCount: Int = 3000) -> [UInt8] {
    var bytes = flattenedHead()
    for start in stride(from: 0, to: file.count, by: pieceByteCount).reversed() {
      let data = Array(file[start..<min(file.count, start + pieceByteCount)])
      if start % 2 == 0 {
        bytes += piece(
          Int64(start),
          Int64(data.count),
          [UInt8](repeating: 0xee, count: data.count)
        )
      }
      bytes += piece(Int64(start), Int64(data.count), data)
    }
    return bytes + piece(-1, -1, [])
  }
}
