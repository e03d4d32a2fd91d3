/// Chooses the order in which chunks become rows, so that the rows fill the database's pages.
///
/// SQLite fills as many overflow pages as possible with a row of `chunk_data`, and puts the rest into a
/// leaf page. The rest is anything from an eighth of a page to all of it. Rows that come as they are
/// leave a quarter of the leaves empty, which is 3 % of a store. Of ``windowCount`` rows there is
/// nearly always one that fits into what is left, and a fifth of that waste remains.
///
/// The order depends on nothing but the lengths, so that the same chunks make the same file.
struct RowPacker<Row> {
  /// How many rows there are to choose from; more gain little: 2.4 MB are wasted of 370 with 16, 1.9
  /// with 32.
  static var windowCount: Int { 16 }

  private var waiting: [(row: Row, cellByteCount: Int)] = []
  /// What SQLite's last leaf has room for. Not known at first; a few rows later both begin the same
  /// leaf, and from then on it is.
  private var freeByteCount = 0

  init() {
    waiting.reserveCapacity(Self.windowCount)
  }

  /// Adds a row with so many bytes of data.
  mutating func add(_ row: Row, storedByteCount: Int) {
    waiting.append((row, ChunkDataLeaf.cellByteCount(storedByteCount: storedByteCount)))
  }

  /// The row to write now: the longest that fits into the last leaf, or the oldest when none does.
  ///
  /// - Parameter isEnd: Whether no row will be added any more.
  /// - Returns: `nil` while there are too few to choose from, or none.
  mutating func next(isEnd: Bool) -> Row? {
    guard waiting.count >= (isEnd ? 1 : Self.windowCount) else { return nil }
    var chosen = 0
    var chosenByteCount = 0
    for (index, candidate) in waiting.enumerated()
    where candidate.cellByteCount <= freeByteCount && candidate.cellByteCount > chosenByteCount {
      (chosen, chosenByteCount) = (index, candidate.cellByteCount)
    }
    let (row, cellByteCount) = waiting.remove(at: chosen)
    if cellByteCount > freeByteCount { freeByteCount = ChunkDataLeaf.byteCapacity }
    freeByteCount -= cellByteCount
    return row
  }
}

/// A leaf of the table `chunk_data`, as SQLite lays it out (its file format, "B-tree pages" and "Cell
/// payload overflow pages").
enum ChunkDataLeaf {
  private static let pageByteCount = StoreFormat.databasePageByteCount
  private static let headerByteCount = 8
  private static let overflowPointerByteCount = 4

  /// What cells and the pointers to them share.
  static let byteCapacity = pageByteCount - headerByteCount

  /// What the row takes in its leaf, the pointer to its cell included. Up to chunk 2^21 it is a byte or
  /// two less, which does no harm: a leaf seems full a little early.
  static func cellByteCount(storedByteCount: Int) -> Int {
    let (pointerByteCount, rowIDByteCount) = (2, 4)
    // The header: its own length, NULL for the row's id, and the type of the BLOB.
    let payload = 2 + varintByteCount(storedByteCount * 2 + 12) + storedByteCount
    let fixed = pointerByteCount + rowIDByteCount + varintByteCount(payload)
    let maximum = pageByteCount - 35
    guard payload > maximum else { return fixed + payload }
    let minimum = (pageByteCount - 12) * 32 / 255 - 23
    let rest = minimum + (payload - minimum) % (pageByteCount - overflowPointerByteCount)
    return fixed + overflowPointerByteCount + (rest <= maximum ? rest : minimum)
  }

  private static func varintByteCount(_ value: Int) -> Int {
    max(1, (Int.bitWidth - value.leadingZeroBitCount + 6) / 7)
  }
}
