/// Turns a flat RAM file, written in order, into the pages of a migration stream.
final class QEMUStreamWriter: FlatRAMSink {
  private static let bufferByteCount = 1 << 20

  private let output: StreamWriter
  private let ramByteCount: UInt64
  private var record: QEMUPageRecord
  private var buffer: [UInt8] = []
  private var offset: UInt64 = 0
  /// Bytes that went to the output.
  private(set) var byteCount: UInt64 = 0

  init(_ output: StreamWriter, record: QEMUMachineRecord) {
    self.output = output
    self.record = QEMUPageRecord(blockName: Array(record.ramBlock.utf8))
    ramByteCount = record.ramByteCount
    buffer.reserveCapacity(Self.bufferByteCount + 2 * Page.byteCount)
  }

  /// Writes bytes of the stream as they are.
  func append(_ bytes: ArraySlice<UInt8>) throws(VMCheckpointError) {
    buffer += bytes
    try flush()
  }

  /// Takes whole pages of RAM. Zero pages become records as well: QEMU does, too, and so RAM ends
  /// up right whatever was in it.
  func write(_ bytes: UnsafeRawBufferPointer) throws(VMCheckpointError) {
    var start = 0
    while start < bytes.count {
      let page = UnsafeRawBufferPointer(rebasing: bytes[start..<(start + Page.byteCount)])
      let isZero = ZeroPage.isZero(page.baseAddress!)
      record.append(isZero ? nil : page, at: offset, to: &buffer)
      if buffer.count >= Self.bufferByteCount { try flush() }
      offset += UInt64(Page.byteCount)
      start += Page.byteCount
    }
  }

  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when not all of RAM came.
  func endOfRAM() throws(VMCheckpointError) {
    guard offset == ramByteCount else {
      throw VMCheckpointError(
        .corrupt,
        "the snapshot has \(offset) bytes of RAM, and the machine that it describes \(ramByteCount)"
      )
    }
    try flush()
  }

  private func flush() throws(VMCheckpointError) {
    // Array's own closures only rethrow untyped errors.
    try buffer.withUnsafeBytes { bytes in
      Result { () throws(VMCheckpointError) in try output.write(bytes) }
    }.get()
    byteCount += UInt64(buffer.count)
    buffer.removeAll(keepingCapacity: true)
  }
}
