import Glibc
import SystemPackage
import VMCheckpoint

/// The pages of a migration stream in a regular file, left where they are: for each page, where it is.
///
/// A copy of all RAM, which ``QEMURAMSpool`` makes, costs more than to read the file once more. It is filled by
/// one thread. After ``flush()`` it does not change, and any number of threads may read.
final class QEMURAMInPlace: QEMURAMPages, @unchecked Sendable {
  /// Of all blocks. Larger guests go through a spool: the places need 8 bytes a page, 128 MiB here.
  static let maximumByteCount: UInt64 = 64 << 30

  /// The values of `places` that are not offsets, which no page of a stream can be at.
  private static let notSent: UInt64 = 0
  private static let zero: UInt64 = 1
  /// With the byte that fills the page in the lowest bits.
  private static let filled: UInt64 = 1 << 63

  /// What messages call the file.
  private let name: String
  private let descriptor: FileDescriptor
  private let places: UnsafeMutableBufferPointer<UInt64>

  /// - Parameters:
  ///   - byteCount: Of all blocks; at most ``maximumByteCount``.
  ///   - descriptor: Stays the caller's; a copy is kept.
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  init(byteCount: UInt64, descriptor: Int32, name: String) throws(VMCheckpointError) {
    self.name = name
    let pageCount = Int(Page.count(inByteCount: byteCount))
    let places = try LargeMemory.allocate(pageCount, of: Self.notSent)
    do {
      self.descriptor = try FileDescriptor(rawValue: descriptor).duplicate()
    } catch {
      LargeMemory.free(places)
      throw VMCheckpointError(.outOfResources, "cannot open \(name) again: \(error)")
    }
    self.places = places
  }

  deinit {
    LargeMemory.free(places)
    try? descriptor.close()
  }

  func write(
    _ page: UnsafeRawBufferPointer,
    at offset: UInt64,
    from source: UInt64?
  ) throws(VMCheckpointError) {
    places[Self.index(offset)] = source ?? Self.filled | UInt64(page[0])
  }

  func writeZero(at offset: UInt64) throws(VMCheckpointError) {
    places[Self.index(offset)] = Self.zero
  }

  func flush() throws(VMCheckpointError) {}

  func sentPageCount(of block: QEMURAMBlock) -> UInt64 {
    block.pageIndices.reduce(0) { places[$1] == Self.notSent ? $0 : $0 + 1 }
  }

  func isSent(at offset: UInt64) -> Bool { places[Self.index(offset)] != Self.notSent }

  func hasBytes(at offset: UInt64) -> Bool { places[Self.index(offset)] > Self.zero }

  func read(into page: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(VMCheckpointError) {
    try read(pageCount: 1, at: offset, into: page)
  }

  /// Takes a page that is at `source` of the file, unread.
  func note(at offset: UInt64, from source: UInt64) { places[Self.index(offset)] = source }

  /// How many pages from `offset` on are zero, or were not sent; at most `limit`.
  func zeroPageCount(at offset: UInt64, limit: Int) -> Int {
    let first = Self.index(offset)
    var index = first
    while index < first + limit, places[index] <= Self.zero { index += 1 }
    return index - first
  }

  // MARK: Reading

  /// The page at `offset`.
  func page(at offset: UInt64) throws(VMCheckpointError) -> PageContents? {
    let memory = try LargeMemory.allocate(byteCount: Page.byteCount)
    defer { LargeMemory.free(memory) }
    try read(into: memory, at: offset)
    return PageContents(copying: UnsafeRawBufferPointer(memory))
  }

  /// Bytes between two pages that are read with them: headers, and pages of zeros in between.
  private static let maximumGapByteCount: UInt64 = 512
  /// `IOV_MAX` is 1024.
  private static let maximumPartCount = 1000

  /// Reads consecutive pages, at most a window's, with few calls: pages that follow each other in the file
  /// go into their places at once, and what is between them into a place where nobody looks.
  func read(
    pageCount: Int,
    at offset: UInt64,
    into pages: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) {
    let first = Self.index(offset)
    try withUnsafeTemporaryAllocation(of: iovec.self, capacity: Self.maximumPartCount) { parts in
      Result { () throws(VMCheckpointError) in
        try withUnsafeTemporaryAllocation(
          byteCount: Int(Self.maximumGapByteCount),
          alignment: 8
        ) { gap in
          Result { () throws(VMCheckpointError) in
            var batch = Batch(parts: parts, gap: gap.baseAddress!)
            for index in 0..<pageCount {
              let start = index * Page.byteCount
              let page = UnsafeMutableRawBufferPointer(
                rebasing: pages[start..<(start + Page.byteCount)]
              )
              let place = places[first + index]
              guard place > Self.zero, place & Self.filled == 0 else {
                let byte = place & Self.filled == 0 ? 0 : UInt8(truncatingIfNeeded: place)
                page.initializeMemory(as: UInt8.self, repeating: byte)
                continue
              }
              if !batch.takes(place) {
                try read(batch)
                batch.begin(at: place)
              }
              batch.append(page, at: place)
            }
            try read(batch)
          }
        }.get()
      }
    }.get()
  }

  /// Parts of the file that one call reads.
  private struct Batch {
    let parts: UnsafeMutableBufferPointer<iovec>
    let gap: UnsafeMutableRawPointer
    var count = 0
    var start: UInt64 = 0
    var end: UInt64 = 0

    /// Whether the page at `place` comes soon enough behind the others.
    func takes(_ place: UInt64) -> Bool {
      count > 0 && count + 2 <= QEMURAMInPlace.maximumPartCount && place >= end
        && place - end <= QEMURAMInPlace.maximumGapByteCount
    }

    mutating func begin(at place: UInt64) { (count, start, end) = (0, place, place) }

    mutating func append(_ page: UnsafeMutableRawBufferPointer, at place: UInt64) {
      if place > end {
        parts[count] = iovec(iov_base: gap, iov_len: Int(place - end))
        count += 1
      }
      parts[count] = iovec(iov_base: page.baseAddress, iov_len: page.count)
      count += 1
      end = place + UInt64(page.count)
    }
  }

  private func read(_ batch: Batch) throws(VMCheckpointError) {
    guard batch.count > 0 else { return }
    let wanted = Int(batch.end - batch.start)
    let got = preadv(
      descriptor.rawValue,
      batch.parts.baseAddress,
      Int32(batch.count),
      off_t(batch.start)
    )
    if got == wanted { return }
    // A signal may have ended it early.
    var offset = batch.start
    for part in batch.parts[..<batch.count] {
      let room = UnsafeMutableRawBufferPointer(start: part.iov_base, count: part.iov_len)
      let count: Int
      do throws(Errno) {
        count = try FileIO.read(into: room, from: descriptor, at: offset)
      } catch {
        throw VMCheckpointError(
          .inputOutput,
          "cannot read \(name) at offset \(hexString(offset)): \(error)"
        )
      }
      guard count == room.count else {
        throw VMCheckpointError(.inputOutput, "\(name) shrank while it was being saved")
      }
      offset += UInt64(room.count)
    }
  }

  private static func index(_ offset: UInt64) -> Int { Int(offset >> UInt64(Page.shift)) }
}
