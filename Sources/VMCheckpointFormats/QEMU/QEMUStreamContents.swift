import VMCheckpoint

/// A migration stream taken apart.
struct QEMUStreamContents {
  /// The machine's type with its version, such as `pc-q35-7.2`.
  var machineName: String
  /// Whether shared RAM was left out by the capability `x-ignore-shared`.
  var ignoresShared: Bool
  var uuidSubsection: [UInt8]
  var sectionID: UInt32
  var instanceID: UInt32
  var blocks: [QEMURAMBlock]
  /// Every block's pages.
  var pages: any QEMURAMPages
  var commands: [UInt8]
  /// All that follows the RAM section.
  var devices: [UInt8]

  /// A stream that QEMU takes, with every block's pages but those of the guest's RAM, and where in
  /// it they belong.
  ///
  /// It is the same for the same guest, whatever order the pages came in, how often, and whether
  /// RAM was left out by `x-ignore-shared`. QEMU takes pages in any order; pages that no stream
  /// brings stay as they are, so that over a RAM file it completes the guest.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidData` when a block was left out or all is too large.
  func deviceState(
    withoutPagesOf ramIndices: [Int]
  ) throws(VMCheckpointError) -> (data: [UInt8], ramOffset: Int) {
    typealias Section = QEMUStreamFormat.Section
    var data: [UInt8] = []
    data.appendBigEndian(QEMUStreamFormat.magic)
    data.appendBigEndian(QEMUStreamFormat.version)
    data.append(Section.configuration)
    data.appendBigEndian(UInt32(machineName.utf8.count))
    data += machineName.utf8
    data += uuidSubsection
    data.append(Section.start)
    data.appendBigEndian(sectionID)
    data.append(UInt8(QEMUStreamFormat.ramSectionName.count))
    data += QEMUStreamFormat.ramSectionName
    data.appendBigEndian(instanceID)
    data.appendBigEndian(QEMUStreamFormat.ramSectionVersion)
    let total = blocks.reduce(0) { $0 + $1.byteCount }
    data.appendBigEndian(total | QEMUStreamFormat.RAMFlag.blockList)
    for block in blocks {
      data.append(UInt8(block.name.count))
      data += block.name
      data.appendBigEndian(block.byteCount)
    }
    appendSectionEnd(to: &data)
    let ramOffset = data.count
    data += commands
    data.append(Section.end)
    data.appendBigEndian(sectionID)
    for (index, block) in blocks.enumerated() where !ramIndices.contains(index) {
      try append(block, to: &data)
    }
    appendSectionEnd(to: &data)
    guard data.count + devices.count <= QEMUStreamFormat.maximumDeviceStateByteCount else {
      throw Self.tooLarge("the devices")
    }
    data += devices
    return (data, ramOffset)
  }

  private func appendSectionEnd(to data: inout [UInt8]) {
    data.appendBigEndian(QEMUStreamFormat.RAMFlag.endOfSection)
    data.append(QEMUStreamFormat.Section.footer)
    data.appendBigEndian(sectionID)
  }

  private func append(_ block: QEMURAMBlock, to data: inout [UInt8]) throws(VMCheckpointError) {
    let sentPageCount = pages.sentPageCount(of: block)
    guard sentPageCount == block.pageCount else {
      guard ignoresShared else {
        // Zeros would take their place, in a ROM as well.
        throw .invalidData(
          "RAM block \(quotedName(block.text)) has \(sentPageCount) of its \(block.pageCount) pages in the stream",
          hint: "the migration failed or was interrupted; take the stream again"
        )
      }
      throw .invalidData(
        "RAM block \(quotedName(block.text)) was left out of the stream, because it is shared",
        hint: "migrate without x-ignore-shared"
      )
    }
    var record = QEMUPageRecord(blockName: block.name)
    let page = try LargeMemory.allocate(byteCount: Page.byteCount)
    defer { LargeMemory.free(page) }
    for pageIndex in 0..<block.pageCount {
      let offset = pageIndex << UInt64(Page.shift)
      var isZero = !pages.hasBytes(at: block.spoolOffset + offset)
      if !isZero {
        try pages.read(into: page, at: block.spoolOffset + offset)
        isZero = ZeroPage.isZero(UnsafeRawPointer(page.baseAddress!))
      }
      record.append(isZero ? nil : UnsafeRawBufferPointer(page), at: offset, to: &data)
      guard data.count <= QEMUStreamFormat.maximumDeviceStateByteCount else {
        throw Self.tooLarge("RAM block \(quotedName(block.text))")
      }
    }
  }

  private static func tooLarge(_ what: String) -> VMCheckpointError {
    .invalidData(
      "\(what) and what else is kept as device state has more than "
        + "\(QEMUStreamFormat.maximumDeviceStateByteCount) bytes",
      hint: "memory that is not the guest's RAM, such as an NVDIMM, is kept as device state; save "
        + "the guest without it"
    )
  }
}
