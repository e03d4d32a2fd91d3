/// A store's format version: `user_version`, in SQLite's header at offset 60; independent of the program's
/// version.
package enum StoreVersion {
  package static let current: Int32 = 1

  /// All that this program reads and writes.
  package static let known: ClosedRange<Int32> = 1...current
}
