import CLZ4

/// How much work a save puts into compressing pages that are new.
///
/// Whatever is chosen, restores decode the same format. A chunk that does not get shorter is kept raw.
public enum ChunkCompression: String, Sendable, Hashable, Codable, CaseIterable {
  /// None: chunks hold their pages as they are.
  case none

  /// LZ4 that looks less hard for matches: a third faster than ``default`` and a tenth larger.
  case fast

  /// LZ4 as its own tool compresses by default.
  case `default`

  /// LZ4-HC: a sixth smaller than ``default``, and a seventh as fast.
  case high
}

extension ChunkCompression {
  package var effort: ChunkCompressor.Effort {
    switch self {
    case .none: .none
    case .fast: .lz4(acceleration: 8)
    case .default: .lz4(acceleration: 1)
    case .high: .lz4HC(level: 3)
    }
  }
}

/// Compresses blocks; one thread at a time uses it. The same bytes and effort always give the same block.
///
/// Bytes that do not compress need no check of their own: LZ4 skips over them at 15 GB/s. LZ4-HC does
/// not, and so only gets what LZ4 could shorten.
package final class ChunkCompressor: @unchecked Sendable {
  package enum Effort: Sendable, Hashable {
    case none
    case lz4(acceleration: Int32)
    case lz4HC(level: Int32)

    /// What `optimize` uses: 2.5 % smaller than level 3, at half the speed; higher levels take several
    /// times as long and save less than 0.5 %.
    package static let optimize = Effort.lz4HC(level: 9)
  }

  private let effort: Effort
  /// LZ4-HC's tables, 256 KiB; LZ4's own are on the stack.
  private let state: UnsafeMutableRawPointer?
  /// For pages that are shuffled: 64 KiB.
  private let arranged: UnsafeMutableRawBufferPointer
  /// For blocks that are made only to see how long they are: 64 KiB, of LZ4-HC.
  private let trial: UnsafeMutableRawPointer?
  /// All three.
  private let memory: UnsafeMutableRawBufferPointer

  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  package init(_ effort: Effort) throws(VMCheckpointError) {
    self.effort = effort
    let capacity = ChunkFormat.byteCapacity
    let extraByteCount =
      switch effort {
      case .none, .lz4: 0
      case .lz4HC: capacity + Int(LZ4_sizeofStateHC())
      }
    memory = try LargeMemory.allocate(byteCount: capacity + extraByteCount)
    arranged = UnsafeMutableRawBufferPointer(rebasing: memory[..<capacity])
    trial = extraByteCount == 0 ? nil : memory.baseAddress! + capacity
    state = trial.map { $0 + capacity }
  }

  deinit { LargeMemory.free(memory) }

  /// Whether blocks are compressed at all.
  package var isActive: Bool { effort != .none }

  /// Arranges a chunk's pages so that they compress best: shuffles those that gain by it.
  ///
  /// LZ4-HC works so long that LZ4 is asked first whether what seems best is best; less than a 32nd is
  /// not worth a change.
  ///
  /// - Returns: The bytes to compress, valid until the next call: `pages` themselves when none gains.
  package func arrange(
    _ pages: UnsafeRawBufferPointer
  ) -> (content: UnsafeRawBufferPointer, shuffled: ShuffledSlots) {
    let pageCount = pages.count / Page.byteCount
    var bits: UInt16 = 0
    for slot in 0..<pageCount
    where PageShuffle.isWorthwhile(pages.baseAddress! + slot * Page.byteCount) {
      bits |= 1 << UInt16(slot)
    }
    if case .lz4HC = effort {
      let all = UInt16(truncatingIfNeeded: 1 << pageCount - 1)
      var best = quickByteCount(arranged(pages, bits))
      for other in [0, all] where other != bits {
        let byteCount = quickByteCount(arranged(pages, other))
        if byteCount < best - best / 32 { (best, bits) = (byteCount, other) }
      }
    }
    return (arranged(pages, bits), ShuffledSlots(bits: bits))
  }

  private func arranged(_ pages: UnsafeRawBufferPointer, _ bits: UInt16) -> UnsafeRawBufferPointer {
    guard bits != 0 else { return pages }
    ShuffledSlots(bits: bits).shuffle(pages, into: arranged.baseAddress!)
    return UnsafeRawBufferPointer(rebasing: arranged[..<pages.count])
  }

  /// What LZ4 makes of the bytes.
  private func quickByteCount(_ content: UnsafeRawBufferPointer) -> Int {
    let byteCount = compress(content, into: trial!, .lz4(acceleration: 1))
    return byteCount == 0 ? content.count : byteCount
  }

  /// Compresses `source` into one LZ4 block that is shorter.
  ///
  /// - Parameter block: Room for one byte less than `source` has.
  /// - Returns: The block's size; 0 when it would not be shorter, and `block` holds anything then.
  package func compress(_ source: UnsafeRawBufferPointer, into block: UnsafeMutableRawPointer)
    -> Int
  {
    compress(source, into: block, effort)
  }

  private func compress(
    _ source: UnsafeRawBufferPointer,
    into block: UnsafeMutableRawPointer,
    _ effort: Effort
  ) -> Int {
    let input = source.baseAddress!.assumingMemoryBound(to: CChar.self)
    let output = block.assumingMemoryBound(to: CChar.self)
    let (byteCount, room) = (Int32(source.count), Int32(source.count - 1))
    let result: Int32
    switch effort {
    case .none: result = 0
    case .lz4(let acceleration):
      result = LZ4_compress_fast(input, output, byteCount, room, acceleration)
    case .lz4HC(let level):
      let quick = LZ4_compress_fast(input, output, byteCount, room, 1)
      // Where LZ4 saves less than a 64th, LZ4-HC hardly saves more.
      if quick <= 0 || quick > byteCount - byteCount / 64 {
        result = quick
      } else {
        result = LZ4_compress_HC_extStateHC(state, input, output, byteCount, room, level)
      }
    }
    return max(0, Int(result))
  }
}
