/// Reads a guest's RAM window by window, in ascending order of PFN.
///
/// Several threads call ``readWindow(into:)`` at once; each call claims the next window.
package protocol RAMReader: Sendable {
  /// Reads the next window that may hold anything but zero pages.
  ///
  /// - Returns: `false` at the end.
  /// - Throws: ``VMCheckpointError`` when the source ends too early or cannot be read.
  func readWindow(into window: RAMWindow) throws(VMCheckpointError) -> Bool

  /// The size of the source, if known before its end.
  var totalByteCount: UInt64? { get }

  /// The layout of what was read; for a stream of unknown size only known after its end.
  func finalLayout() throws(VMCheckpointError) -> RAMLayout
}
