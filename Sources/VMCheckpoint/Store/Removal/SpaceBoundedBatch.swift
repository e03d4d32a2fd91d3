import GRDB

/// Work in batches that get smaller when the disk is too full for them. Freeing space takes some,
/// because SQLite journals what it overwrites; a full disk must not keep gc from helping.
struct SpaceBoundedBatch {
  private(set) var count: Int

  /// - Parameter count: The things in a batch for as long as there is room.
  init(count: Int) {
    self.count = count
  }

  /// Runs `body` with the number of things that it may do in its one transaction; again with fewer
  /// when the disk is full, down to one.
  ///
  /// - Throws: What `body` throws, its transaction rolled back.
  mutating func run(_ body: (Int) throws -> Void) throws {
    while true {
      do {
        return try body(count)
      } catch let error as DatabaseError where error.resultCode == .SQLITE_FULL && count > 1 {
        count = max(1, count / 8)
      }
    }
  }
}
