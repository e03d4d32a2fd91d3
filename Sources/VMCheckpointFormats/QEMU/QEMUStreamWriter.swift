import VMCheckpoint

/// Turns a flat RAM file, written in order, into the pages of a migration stream.
final class QEMUStreamWriter: FlatRAMSink {
  private static let bufferByteCount = 1 << 20

  private let output: StreamWriter
  /// The blocks that are not complete.
  private var blocks: ArraySlice<QEMUMachineRecord.RAMBlock>
  private var record: QEMUPageRecord
  private var buffer: [UInt8] = []
  /// In the first block.
  private var offset: UInt64 = 0
  /// Bytes that went to the output.
  private(set) var byteCount: UInt64 = 0

  init(_ output: StreamWriter, record: QEMUMachineRecord) {
    self.output = output
    blocks = record.ramBlocks[...]
    self.record = QEMUPageRecord(blockName: Array(record.ramBlocks[0].name.utf8))
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
      if offset == blocks.first?.byteCount {
        blocks.removeFirst()
        offset = 0
        if let next = blocks.first { record = QEMUPageRecord(blockName: Array(next.name.utf8)) }
      }
      guard !blocks.isEmpty else { throw Self.wrongSize() }
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
    guard blocks.count == 1, offset == blocks.first?.byteCount else { throw Self.wrongSize() }
    try flush()
  }

  private static func wrongSize() -> VMCheckpointError {
    VMCheckpointError(
      .corrupt,
      "the snapshot has another size of RAM than the machine that it describes"
    )
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
