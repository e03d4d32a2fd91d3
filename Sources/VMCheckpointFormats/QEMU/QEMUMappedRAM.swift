import VMCheckpoint

/// The RAM of a stream with the capability `mapped-ram`: behind each block's header a bitmap of its pages,
/// and room for all of them, of which those without a bit are zero.
///
///     header   u32 version 1, u64 page size, u64 offset of the bitmap, u64 offset of the pages
///     bitmap   8 bytes for each 64 pages begun, the first page in the lowest bit
///     pages    at the next multiple of 1 MiB
///
/// Offsets count from the file's beginning. Where in the file the stream begins follows from the first
/// block, whose bitmap comes right behind its header: so a stream reads as well from a pipe as from the
/// middle of a file.
///
/// Source: QEMU `docs/devel/migration/mapped-ram.rst`, `migration/ram.c`, 9.0 to 10.0.
struct QEMUMappedRAM {
  /// Gaps between what comes in a file are shorter than that.
  private static let maximumGapByteCount: UInt64 = 16 << 20
  private static let bitmapPieceByteCount = 8 << 10

  /// Where the stream's first byte is in the file; `nil` before the first block.
  private var base: UInt64?

  /// Reads what follows a block's name and size, and steps behind its pages.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  mutating func read(
    _ block: QEMURAMBlock,
    from input: QEMUStreamInput,
    to pages: any QEMURAMPages
  ) throws(VMCheckpointError) {
    let version = try input.uint32()
    guard version == 1 else {
      throw input.invalid("version \(version) of mapped-ram is unknown")
    }
    let pageByteCount = try input.uint64()
    guard pageByteCount == UInt64(Page.byteCount) else {
      throw input.invalid("mapped-ram has pages of \(pageByteCount) bytes")
    }
    let bitmapOffset = try input.uint64()
    let pagesOffset = try input.uint64()
    if base == nil {
      guard bitmapOffset >= input.offset else {
        throw input.invalid(
          "the bitmap of RAM block \(quotedName(block.text)) is before its header"
        )
      }
      base = bitmapOffset - input.offset
    }
    try skip(to: bitmapOffset, input)
    let bitmap = try readBitmap(of: block, input)
    try skip(to: pagesOffset, input)
    try readPages(of: block, bitmap, input, pages)
  }

  /// Steps over a gap up to a place in the file.
  private func skip(to fileOffset: UInt64, _ input: QEMUStreamInput) throws(VMCheckpointError) {
    let here = input.offset &+ base!
    guard fileOffset >= here, fileOffset - here < Self.maximumGapByteCount else {
      throw input.invalid("mapped-ram goes on at offset \(fileOffset), and not behind \(here)")
    }
    try input.skip(byteCount: fileOffset - here)
  }

  private func readBitmap(
    of block: QEMURAMBlock,
    _ input: QEMUStreamInput
  ) throws(VMCheckpointError) -> [UInt64] {
    let wordCount = Int((block.pageCount + 63) / 64)
    try LargeMemory.require(byteCount: wordCount * 8)
    var words: [UInt64] = []
    words.reserveCapacity(wordCount)
    while words.count < wordCount {
      let count = min(wordCount - words.count, Self.bitmapPieceByteCount / 8)
      try input.withBytes(count: count * 8) { bytes in
        for index in 0..<count {
          let word = bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)
          words.append(UInt64(littleEndian: word))
        }
      }
    }
    return words
  }

  private func readPages(
    of block: QEMURAMBlock,
    _ bitmap: [UInt64],
    _ input: QEMUStreamInput,
    _ pages: any QEMURAMPages
  ) throws(VMCheckpointError) {
    if let start = input.fileOffset, let pages = pages as? QEMURAMInPlace {
      try note(block, bitmap, pages, startingAt: start)
      try input.skip(byteCount: block.byteCount)
      return
    }
    var zeroCount: UInt64 = 0
    for index in 0..<block.pageCount {
      let offset = block.spoolOffset + index << UInt64(Page.shift)
      guard bitmap[Int(index / 64)] >> (index % 64) & 1 != 0 else {
        try pages.writeZero(at: offset)
        zeroCount += 1
        continue
      }
      try input.skip(byteCount: zeroCount << UInt64(Page.shift))
      zeroCount = 0
      let source = input.fileOffset
      try input.withBytes(count: Page.byteCount) { page throws(VMCheckpointError) in
        try pages.write(page, at: offset, from: source)
      }
    }
    try input.skip(byteCount: zeroCount << UInt64(Page.shift))
  }

  /// Lets pages stay where they are. That the file is long enough shows by what comes behind them.
  private func note(
    _ block: QEMURAMBlock,
    _ bitmap: [UInt64],
    _ pages: QEMURAMInPlace,
    startingAt start: UInt64
  ) throws(VMCheckpointError) {
    for index in 0..<block.pageCount {
      let offset = index << UInt64(Page.shift)
      if bitmap[Int(index / 64)] >> (index % 64) & 1 != 0 {
        pages.note(at: block.spoolOffset + offset, from: start + offset)
      } else {
        try pages.writeZero(at: block.spoolOffset + offset)
      }
    }
  }
}
