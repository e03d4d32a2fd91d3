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
  /// Pages that a filter has left out. ``KdumpRAMReader`` gives zeros for them.
  let absent: AbsentPages

  /// - Throws: ``VMCheckpointError``, whose message goes on after the file's name.
  init(
    _ header: KdumpHeader,
    _ file: DumpFile,
    _ cancellation: CancellationFlag
  ) throws(VMCheckpointError) {
    var memory: [Range<UInt64>] = []
    var stored: UInt64 = 0
    var absent = AbsentPages()
    // Many pieces at once: the bitmaps of a terabyte are 32 MiB each.
    let step = 64 * Self.pagesPerPiece
    // To the bitmaps' ends: a page behind the number of PFNs would be lost with no word.
    let bitCount = 8 * header.bitmapByteCount
    for first in stride(from: 0, to: bitCount, by: Int(step)) {
      try cancellation.check()
      let count = min(step, bitCount - first)
      let existing = try Self.words(header, file, bitmap: 0, first, count)
      let inFile = try Self.words(header, file, bitmap: 1, first, count)
      if first + count > header.pfnCount {
        try Self.requireNoPages(existing, first, behind: header.pfnCount)
        try Self.requireNoPages(inFile, first, behind: header.pfnCount)
      }
      for index in existing.indices {
        let word = inFile[index]
        stored += UInt64(word.nonzeroBitCount)
        let pfn = first + UInt64(index) * 64
        Self.forEachRun(existing[index] & ~word, pfn) { absent.append($0) }
        try Self.append(existing[index] | word, pfn, to: &memory)
      }
      guard absent.runs.count <= AbsentPages.maximumRunCount else {
        throw .invalidData(
          "lacks pages in more than \(AbsentPages.maximumRunCount) places, which are too many"
        )
      }
    }
    guard !memory.isEmpty else { throw .invalidData("holds no RAM: no page exists in its bitmaps") }
    let isX86 = header.machine.isX86
    layout = try LoadRegions.layout(
      isX86 ? LoadRegions.splitAt4GiB(memory) : memory,
      isX86: isX86
    )
    storedPageCount = stored
    self.absent = absent
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

  private static func requireNoPages(
    _ words: [UInt64],
    _ firstPFN: UInt64,
    behind pfnCount: UInt64
  ) throws(VMCheckpointError) {
    for (index, word) in words.enumerated() where word != 0 {
      let pfn = firstPFN + UInt64(index) * 64
      let last = pfn + 63 - UInt64(word.leadingZeroBitCount)
      guard last >= pfnCount else { continue }
      throw .invalidData(
        "is damaged: it has \(pfnCount) page frames, and page frame \(last) in its bitmaps"
      )
    }
  }

  /// Adds the pages of a word's bits, run by run.
  private static func append(
    _ word: UInt64,
    _ firstPFN: UInt64,
    to memory: inout [Range<UInt64>]
  ) throws(VMCheckpointError) {
    try forEachRun(word, firstPFN) { run throws(VMCheckpointError) in
      try LoadRegions.append(
        run.lowerBound << UInt64(Page.shift)..<run.upperBound << UInt64(Page.shift),
        to: &memory
      )
    }
  }

  /// Calls `body` with each run of pages that a word has bits for, in ascending order.
  private static func forEachRun<Failure: Error>(
    _ word: UInt64,
    _ firstPFN: UInt64,
    _ body: (Range<UInt64>) throws(Failure) -> Void
  ) throws(Failure) {
    var rest = word
    var pfn = firstPFN
    while rest != 0 {
      let gap = rest.trailingZeroBitCount
      rest >>= UInt64(gap)
      let run = (~rest).trailingZeroBitCount
      pfn += UInt64(gap)
      let end = pfn + UInt64(run)
      try body(pfn..<end)
      rest = run == 64 ? 0 : rest >> UInt64(run)
      pfn = end
    }
  }
}
