/// Takes a flat RAM file's bytes in order, in pieces of whole pages.
package protocol FlatRAMSink {
  /// - Throws: ``VMCheckpointError``: `cancelled`, or `inputOutput` when the bytes can go nowhere.
  func write(_ bytes: UnsafeRawBufferPointer) throws(VMCheckpointError)
}

extension StreamWriter: FlatRAMSink {}

extension FlatRAMSink {
  /// Writes so many zeros.
  func writeZeros(byteCount: UInt64) throws(VMCheckpointError) {
    guard byteCount > 0 else { return }
    let zeros = try LargeMemory.allocate(byteCount: Int(min(byteCount, 1 << 20)))
    defer { LargeMemory.free(zeros) }
    zeros.initializeMemory(as: UInt8.self, repeating: 0)
    var rest = byteCount
    while rest > 0 {
      let count = min(rest, UInt64(zeros.count))
      try write(UnsafeRawBufferPointer(rebasing: zeros[..<Int(count)]))
      rest -= count
    }
  }
}
