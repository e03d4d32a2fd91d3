/// Takes a flat RAM file's bytes in order, in pieces of whole pages.
package protocol FlatRAMSink {
  /// - Throws: ``VMCheckpointError``: `cancelled`, or `inputOutput` when the bytes can go nowhere.
  func write(_ bytes: UnsafeRawBufferPointer) throws(VMCheckpointError)
}

extension StreamWriter: FlatRAMSink {}
