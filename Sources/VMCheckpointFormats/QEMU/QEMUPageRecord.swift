import VMCheckpoint

/// Makes the records of pages in a RAM section, all of one block.
struct QEMUPageRecord {
  let blockName: [UInt8]
  private var isFirst = true

  init(blockName: [UInt8]) {
    self.blockName = blockName
  }

  /// Appends the record of the page at `offset` in the block.
  ///
  /// - Parameter page: 4096 bytes; `nil` for a zero page.
  mutating func append(
    _ page: UnsafeRawBufferPointer?,
    at offset: UInt64,
    to data: inout [UInt8]
  ) {
    typealias Flag = QEMUStreamFormat.RAMFlag
    let kind = page == nil ? Flag.zero : Flag.page
    data.appendBigEndian(offset | kind | (isFirst ? 0 : Flag.sameBlock))
    if isFirst {
      data.append(UInt8(blockName.count))
      data += blockName
      isFirst = false
    }
    if let page { data.append(contentsOf: page) } else { data.append(0) }
  }
}
