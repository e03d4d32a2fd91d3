import VMCheckpoint

/// Which pages a kdump knows of, and which of them it has: its two bitmaps.
///
/// The first has a bit for each page that exists, the second one for each that is in the file, the lowest PFN in
/// the lowest bit. A page that exists and is not in the file was excluded by a filter: what it held is not known.
/// A page that the second bitmap alone has exists too.
struct KdumpMap {
  /// Pages whose bits are looked at together: those of a block.
  static let pagesPerPiece = UInt64(pieceByteCount) * 8
  static let pieceByteCount = 4096

  let layout: RAMLayout
  /// Pages in the file: as many descriptors follow the bitmaps.
  let storedPageCount: UInt64
  /// Pages that a filter has left out. They count as zeros until a snapshot can say that they are absent:
  /// ``KdumpRAMReader`` passes over them, window by window, and would be where to say it.
  let absentPageCount: UInt64

  /// - Throws: ``VMCheckpointError``, whose message goes on after the file's name.
  init(
    _ header: KdumpHeader,
    _ file: DumpFile,
    _ cancellation: CancellationFlag
  ) throws(VMCheckpointError) {
    var memory: [Range<UInt64>] = []
    var (stored, absent): (UInt64, UInt64) = (0, 0)
    // Many pieces at once: the bitmaps of a terabyte are 32 MiB each.
    let step = 64 * Self.pagesPerPiece
    for first in stride(from: 0, to: header.pfnCount, by: Int(step)) {
      try cancellation.check()
      let count = min(step, header.pfnCount - first)
      let existing = try Self.words(header, file, bitmap: 0, first, count)
      let inFile = try Self.words(header, file, bitmap: 1, first, count)
      for index in existing.indices {
        let word = inFile[index]
        stored += UInt64(word.nonzeroBitCount)
        absent += UInt64((existing[index] & ~word).nonzeroBitCount)
        try Self.append(existing[index] | word, first + UInt64(index) * 64, to: &memory)
      }
    }
    guard !memory.isEmpty else { throw .invalidData("holds no RAM: no page exists in its bitmaps") }
    let isX86 = header.machine.isX86
    layout = try LoadRegions.layout(
      isX86 ? LoadRegions.splitAt4GiB(memory) : memory,
      isX86: isX86
    )
    storedPageCount = stored
    absentPageCount = absent
  }

  /// Bits of a bitmap, in words of 64 pages; those behind the last PFN are 0.
  ///
  /// - Parameter first: A multiple of 64.
  static func words(
    _ header: KdumpHeader,
    _ file: DumpFile,
    bitmap: UInt64,
    _ first: UInt64,
    _ count: UInt64
  ) throws(VMCheckpointError) -> [UInt64] {
    let wordCount = Int((count + 63) / 64)
    let bytes = try file.read(
      at: header.bitmapOffset + bitmap * header.bitmapByteCount + first / 8,
      byteCount: wordCount * 8,
      place: "in its bitmaps"
    )
    var words = [UInt64](unsafeUninitializedCapacity: wordCount) { words, initialized in
      bytes.withUnsafeBytes { bytes in
        for index in 0..<wordCount {
          words[index] = UInt64(
            littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)
          )
        }
      }
      initialized = wordCount
    }
    if count % 64 != 0 { words[wordCount - 1] &= ~(UInt64.max << (count % 64)) }
    return words
  }

  /// Adds the pages of a word's bits, run by run.
  private static func append(
    _ word: UInt64,
    _ firstPFN: UInt64,
    to memory: inout [Range<UInt64>]
  ) throws(VMCheckpointError) {
    var rest = word
    var pfn = firstPFN
    while rest != 0 {
      let gap = rest.trailingZeroBitCount
      rest >>= UInt64(gap)
      let run = (~rest).trailingZeroBitCount
      pfn += UInt64(gap)
      let end = pfn + UInt64(run)
      try LoadRegions.append(
        pfn << UInt64(Page.shift)..<end << UInt64(Page.shift),
        to: &memory
      )
      rest = run == 64 ? 0 : rest >> UInt64(run)
      pfn = end
    }
  }
}
