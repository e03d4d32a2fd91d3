/// The numbers of the chunks that are being made.
///
/// Rows of `chunk` and `chunk_data` are appended, in ascending order of number, but which chunk comes
/// next is known only when some are compressed (``RowPacker``). So a chunk is filled under a provisional
/// number, and gets its own when its row is written. What names its pages until then is translated by
/// ``location(of:)``.
///
/// Provisional numbers are never written to a file. They lie beyond all that a store can have.
package struct ChunkNumbers {
  static let firstProvisional: Int64 = 1 << 58

  /// The number for the next row.
  private(set) var next: Int64
  private var firstKnown = firstProvisional
  /// By provisional number, from `firstKnown`; 0 while the chunk has none.
  private var numbers: [Int64] = []

  /// Numbers that begin with `next`.
  ///
  /// - Parameter next: Of ``ChunkWriter/nextChunkID(_:)``, which keeps numbers far below the provisional
  ///   ones.
  package init(_ next: Int64) {
    precondition(next > 0 && next <= Self.firstProvisional)
    self.next = next
  }

  /// A provisional number for a chunk to fill.
  mutating func makeProvisional() -> Int64 {
    numbers.append(0)
    return firstKnown + Int64(numbers.count) - 1
  }

  /// Gives the chunk the next number, which its row is to be written with at once.
  ///
  /// - Precondition: `provisional` has none, and was not forgotten.
  mutating func assign(to provisional: Int64) -> Int64 {
    let index = Int(provisional - firstKnown)
    precondition(numbers[index] == 0)
    numbers[index] = takeNext()
    return numbers[index]
  }

  /// The next number, for a chunk that was filled under it because none comes before it.
  mutating func takeNext() -> Int64 {
    defer { next += 1 }
    return next
  }

  /// The chunk's number: that of a row that is written, or that a provisional number stands for.
  ///
  /// - Returns: `nil` while it has none.
  func number(of chunkID: Int64) -> Int64? {
    guard chunkID >= Self.firstProvisional else { return chunkID }
    let number = numbers[Int(chunkID - firstKnown)]
    return number == 0 ? nil : number
  }

  /// Where the page will be found in the file; `nil` while its chunk has no number.
  func location(of location: PageLocation) -> PageLocation? {
    number(of: location.chunkID).map { PageLocation(chunkID: $0, slot: location.slot) }
  }

  /// Forgets all provisional numbers: nothing names pages by them any more.
  mutating func forget() {
    firstKnown += Int64(numbers.count)
    numbers.removeAll(keepingCapacity: true)
  }
}
