import CXXHash

/// Another order of a page's bytes: the lowest bytes of its 512 words of 8 bytes, then their second
/// bytes, and so on. HDF5 and Blosc know it as the shuffle filter.
///
/// Pages full of pointers, which a language runtime's heap consists of, differ in the low bytes of each
/// word and are alike in the others. LZ4 needs four equal bytes in a row, and finds few where words differ;
/// in a shuffled page, the equal ones are together. On a 1 GiB guest with such heaps that saves a tenth of
/// a store, and time, because LZ4 has less to look for.
package enum PageShuffle {
  private static let wordCount = Page.byteCount / 8

  /// Whether LZ4 will find more in the page when it is shuffled: whether a quarter of its bytes, zeros
  /// not counted, are equal to the one a word later and not to the next. Text and machine code have
  /// fewer such bytes, and runs of one byte LZ4 finds as they are.
  ///
  /// Looks at every other 32 bytes, in a fiftieth of LZ4's time.
  package static func isWorthwhile(_ page: UnsafeRawPointer) -> Bool {
    var (equal, notZero) = (SIMD4<UInt64>(), SIMD4<UInt64>())
    var offset = 0
    // The last bytes have no word behind them. Of 63 rounds no byte of the counts overflows.
    while offset < Page.byteCount - 64 {
      let bytes = page.loadUnaligned(fromByteOffset: offset, as: SIMD4<UInt64>.self)
      let next = page.loadUnaligned(fromByteOffset: offset + 1, as: SIMD4<UInt64>.self)
      let later = page.loadUnaligned(fromByteOffset: offset + 8, as: SIMD4<UInt64>.self)
      let counted = onesWhereNotZero(bytes)
      notZero &+= counted
      equal &+= counted & onesWhereNotZero(bytes ^ next) & ~onesWhereNotZero(bytes ^ later)
      offset += 64
    }
    return sumOfBytes(equal) * 4 > sumOfBytes(notZero)
  }

  /// 1 in each byte that is not zero.
  @inline(__always)
  private static func onesWhereNotZero(_ words: SIMD4<UInt64>) -> SIMD4<UInt64> {
    let low = SIMD4<UInt64>(repeating: 0x7f7f_7f7f_7f7f_7f7f)
    // A byte's highest bit is set if it was, or by the carry of any lower one.
    return ((words | ((words & low) &+ low)) & ~low) &>> 7
  }

  private static func sumOfBytes(_ counts: SIMD4<UInt64>) -> UInt64 {
    let even = SIMD4<UInt64>(repeating: 0x00ff_00ff_00ff_00ff)
    // Sums of 16 bits hold eight bytes' worth.
    let sums = (counts & even) &+ ((counts &>> 8) & even)
    return (0..<4).reduce(0) { $0 + (sums[$1] &* 0x0001_0001_0001_0001) &>> 48 }
  }

  /// Writes the page's bytes in their other order; the two do not overlap.
  package static func shuffle(_ page: UnsafeRawPointer, into target: UnsafeMutableRawPointer) {
    for word in stride(from: 0, to: wordCount, by: 8) {
      var block = Block { page.loadUnaligned(fromByteOffset: (word + $0) * 8, as: UInt64.self) }
      block.transpose()
      block.forEach {
        target.storeBytes(of: $1, toByteOffset: $0 * wordCount + word, as: UInt64.self)
      }
    }
  }

  /// Undoes ``shuffle(_:into:)``; the two do not overlap.
  package static func unshuffle(_ shuffled: UnsafeRawPointer, into page: UnsafeMutableRawPointer) {
    for word in stride(from: 0, to: wordCount, by: 8) {
      var block = Block {
        shuffled.loadUnaligned(fromByteOffset: $0 * wordCount + word, as: UInt64.self)
      }
      block.transpose()
      block.forEach { page.storeBytes(of: $1, toByteOffset: (word + $0) * 8, as: UInt64.self) }
    }
  }

  /// Eight rows of eight bytes, in registers.
  private struct Block {
    /// Little-endian numbers whatever the machine is.
    private var rows = SIMD8<UInt64>()

    @inline(__always)
    init(_ row: (Int) -> UInt64) {
      for index in 0..<8 { rows[index] = row(index).littleEndian }
    }

    @inline(__always)
    func forEach(_ body: (Int, UInt64) -> Void) {
      for index in 0..<8 { body(index, rows[index].littleEndian) }
    }

    /// Makes columns of the rows.
    @inline(__always)
    mutating func transpose() {
      swapBlocks(bitCount: 32, lower: 0x0000_0000_ffff_ffff)
      swapBlocks(bitCount: 16, lower: 0x0000_ffff_0000_ffff)
      swapBlocks(bitCount: 8, lower: 0x00ff_00ff_00ff_00ff)
    }

    /// Swaps the upper blocks of the first four rows with the lower ones of the last four, and
    /// interleaves the rows: after three steps they have all been swapped and are in order again.
    @inline(__always)
    private mutating func swapBlocks(bitCount: UInt64, lower mask: UInt64) {
      let (first, last) = (rows.lowHalf, rows.highHalf)
      let difference = ((first &>> bitCount) ^ last) & mask
      rows.evenHalf = first ^ (difference &<< bitCount)
      rows.oddHalf = last ^ difference
    }
  }
}

/// Which pages of a chunk are stored shuffled, as a chunk's data states it: behind the LZ4 frame, in a
/// skippable frame, which LZ4 tools pass over. Data without it has none.
///
///     OFFSET  SIZE  DESCRIPTION
///          0     4  magic number of a skippable frame
///          4     4  6: the size of what follows
///          8     2  bit n: the page in slot n is shuffled; at least one is
///         10     4  XXH32 of these two bytes, its seed the frame's checksum of its content
///
/// The checksum is there because the frame's own does not cover the order: a mark with a wrong bit, or of
/// another chunk, would make wrong pages of a sound frame.
///
/// Source: the LZ4 frame format, "Skippable Frames".
package struct ShuffledSlots {
  package static let markByteCount = 14
  private static let magic: UInt32 = 0x184D_2A58
  private static let contentByteCount: UInt32 = 6

  /// Bit n stands for slot n.
  package let bits: UInt16

  /// Takes a chunk's data apart. Bytes that are not a mark are left to the frame, which then says that
  /// bytes follow it.
  ///
  /// - Returns: `nil` when there is a mark that is damaged, or of a chunk of more pages.
  package static func split(
    _ stored: UnsafeRawBufferPointer,
    pageCount: Int
  ) -> (frame: UnsafeRawBufferPointer, slots: ShuffledSlots)? {
    let start = stored.count - markByteCount
    guard start >= 4, number(stored, start, UInt32.self) == magic,
      number(stored, start + 4, UInt32.self) == contentByteCount
    else { return (stored, ShuffledSlots(bits: 0)) }
    let slots = ShuffledSlots(bits: number(stored, start + 8, UInt16.self))
    guard slots.bits != 0, Int(slots.bits) >> pageCount == 0,
      number(stored, start + 10, UInt32.self)
        == slots.checksum(seed: number(stored, start - 4, UInt32.self))
    else { return nil }
    return (UnsafeRawBufferPointer(rebasing: stored[..<start]), slots)
  }

  /// Writes the mark of ``markByteCount`` bytes behind a frame, which ends with its content's checksum.
  package func writeMark(behindFrameAt frameEnd: UnsafeMutableRawPointer) {
    let seed = UInt32(littleEndian: (frameEnd - 4).loadUnaligned(as: UInt32.self))
    frameEnd.storeBytes(of: Self.magic.littleEndian, as: UInt32.self)
    frameEnd.storeBytes(of: Self.contentByteCount.littleEndian, toByteOffset: 4, as: UInt32.self)
    frameEnd.storeBytes(of: bits.littleEndian, toByteOffset: 8, as: UInt16.self)
    frameEnd.storeBytes(of: checksum(seed: seed).littleEndian, toByteOffset: 10, as: UInt32.self)
  }

  private func checksum(seed: UInt32) -> UInt32 {
    withUnsafeBytes(of: bits.littleEndian) { XXH32($0.baseAddress, $0.count, seed) }
  }

  /// Copies pages, and shuffles those in these slots.
  ///
  /// - Precondition: `target` has room for all, and does not overlap them.
  package func shuffle(_ pages: UnsafeRawBufferPointer, into target: UnsafeMutableRawPointer) {
    for slot in 0..<(pages.count / Page.byteCount) {
      let (page, copy) = (
        pages.baseAddress! + slot * Page.byteCount, target + slot * Page.byteCount
      )
      if bits & 1 << UInt16(slot) != 0 {
        PageShuffle.shuffle(page, into: copy)
      } else {
        copy.copyMemory(from: page, byteCount: Page.byteCount)
      }
    }
  }

  /// Puts the bytes of a chunk's first pages back in order.
  ///
  /// - Parameter wanted: The slots of which that is done, among those that `pages` holds; `nil`: all.
  package func unshuffle(_ pages: UnsafeMutableRawBufferPointer, slots wanted: Range<Int>? = nil) {
    guard bits != 0 else { return }
    let slots = wanted ?? 0..<(pages.count / Page.byteCount)
    withUnsafeTemporaryAllocation(byteCount: Page.byteCount, alignment: 64) { scratch in
      for slot in slots where bits & 1 << UInt16(slot) != 0 {
        let page = pages.baseAddress! + slot * Page.byteCount
        scratch.copyMemory(from: UnsafeRawBufferPointer(start: page, count: Page.byteCount))
        PageShuffle.unshuffle(UnsafeRawPointer(scratch.baseAddress!), into: page)
      }
    }
  }

  private static func number<Value: FixedWidthInteger>(
    _ bytes: UnsafeRawBufferPointer,
    _ offset: Int,
    _: Value.Type
  ) -> Value {
    Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Value.self))
  }
}
