/// A store's format version: `user_version`, in SQLite's header at offset 60; independent of the program's
/// version.
///
/// Both versions have the same tables. A new store is of version 1, and of 2 from the transaction on that
/// brings its first chunk with ``ShuffledSlots``.
enum StoreVersion {
  static let shuffledPages: Int32 = 2

  /// All that this program reads and writes.
  static let known: ClosedRange<Int32> = 1...shuffledPages
}
