import Algorithms

/// Decides which chunk is read when, and where each of its pages goes. It sees to it that a file is
/// written from its beginning to its end in large pieces, and that every chunk is decoded once.
///
/// RAM is put together in windows, which follow each other in order of PFN. Chunks are taken in the
/// order in which the windows need them, which is close to the order of their rows: a save stores
/// pages as they come. What a chunk has for windows that are not open yet is written on its own;
/// only a chunk that has very much of that is read again instead.
struct RestoreSchedule {
  /// Where an extent's pages go.
  enum Place: Equatable {
    /// To a window, from this page of it on.
    case window(Int, firstPage: Int)
    /// Right into the file.
    case file
  }

  /// What a chunk has to do with the batch of extents.
  typealias Use = (extent: Extent, place: Place)

  /// A chunk is read and decoded in the time of about that many small writes.
  private static let writesPerChunk = 8

  private let firstWindow: Int
  /// Pages that a window holds, at least those of one extent.
  private let windowPageCapacity: Int
  /// Windows that are open at once.
  private let openWindowCount: Int
  /// As many windows as all pages fill.
  private let fullWindowCount: Int
  /// In ascending order of PFN.
  private let extents: [Extent]
  /// The numbers of all extents, in order of chunk, then of PFN.
  private let byChunk: [UInt32]
  /// Which extents have their place.
  private var isPlaced: [Bool]
  /// The extents' pages that windows hold, counted over all windows as if each were full. Means
  /// nothing for extents that no window was opened for.
  private var positions: [UInt32]
  /// All extents before have their place.
  private var next = 0
  /// The extents before this one belong to windows that have been opened.
  private var openEnd = 0
  /// Windows opened so far.
  private var windowCount = 0

  /// - Parameter extents: In ascending order of PFN, at most 2²⁷.
  init(
    _ extents: [Extent],
    firstWindow: Int,
    windowPageCapacity: Int,
    openWindowCount: Int
  ) {
    precondition(
      windowPageCapacity >= ChunkFormat.pageCapacity && extents.count <= 1 << 27
    )
    self.firstWindow = firstWindow
    self.windowPageCapacity = windowPageCapacity
    self.openWindowCount = openWindowCount
    fullWindowCount = extents.reduce(0) { $0 + Int($1.pageCount) } / windowPageCapacity
    self.extents = extents
    var byChunk = (0..<UInt32(extents.count)).map { $0 }
    extents.withUnsafeBufferPointer { extents in
      byChunk.sort { (extents[Int($0)].chunkID, $0) < (extents[Int($1)].chunkID, $1) }
    }
    self.byChunk = byChunk
    isPlaced = Array(repeating: false, count: extents.count)
    positions = Array(repeating: 0, count: extents.count)
  }

  /// The number of the window that is opened next.
  var nextWindow: Int { firstWindow + windowCount }

  /// Whether no extent is left to place.
  var isAtEnd: Bool { next == extents.count }

  /// Whether ``nextChunk(_:)`` can go on only after another ``openWindow(_:)``.
  var needsWindow: Bool { next == openEnd && !isAtEnd }

  /// Whether there is anything to open a window for.
  var hasMoreWindows: Bool { openEnd < extents.count }

  /// Opens the next window; `parts` gets the extents that it will hold, in ascending order of PFN:
  /// its pages are theirs, one after another. None, when all of them are written otherwise.
  mutating func openWindow(_ parts: inout [Extent]) {
    parts.removeAll(keepingCapacity: true)
    var pageCount = 0
    while openEnd < extents.count {
      let extent = extents[openEnd]
      if !isPlaced[openEnd] {
        guard pageCount + Int(extent.pageCount) <= windowPageCapacity else { break }
        positions[openEnd] = UInt32(windowCount * windowPageCapacity + pageCount)
        parts.append(extent)
        pageCount += Int(extent.pageCount)
      }
      openEnd += 1
    }
    windowCount += 1
    skipPlaced()
  }

  /// The chunk to read next; `uses` gets everything that its pages are needed for.
  ///
  /// - Precondition: Neither ``isAtEnd`` nor ``needsWindow``.
  mutating func nextChunk(_ uses: inout [Use]) -> Int64 {
    precondition(next < openEnd)
    uses.removeAll(keepingCapacity: true)
    let chunkID = extents[next].chunkID
    // A chunk's extents get their places in order: those before `next` have them.
    var position = firstPosition(from: (chunkID, next))
    let end = firstPosition(from: (chunkID + 1, 0))
    while position < end, byChunk[position] < openEnd {
      let index = Int(byChunk[position])
      isPlaced[index] = true
      uses.append((extents[index], place(positions[index])))
      position += 1
    }
    let readsLeft = max(0, fullWindowCount - windowCount) / openWindowCount + 1
    if end - position <= Self.writesPerChunk * readsLeft {
      for index in byChunk[position..<end] {
        isPlaced[Int(index)] = true
        uses.append((extents[Int(index)], .file))
      }
    }
    skipPlaced()
    return chunkID
  }

  private func place(_ position: UInt32) -> Place {
    let (window, page) = Int(position).quotientAndRemainder(dividingBy: windowPageCapacity)
    return .window(firstWindow + window, firstPage: page)
  }

  private mutating func skipPlaced() {
    while next < openEnd, isPlaced[next] { next += 1 }
  }

  /// How many of `byChunk` come before an extent's number, or what would be its place.
  private func firstPosition(from key: (chunkID: Int64, index: Int)) -> Int {
    byChunk.partitioningIndex { (extents[Int($0)].chunkID, Int($0)) >= key }
  }
}
