import SystemPackage
import VMCheckpoint

/// A migration stream that was received, ready to be saved.
struct QEMUStreamCapture {
  /// The device state of a migration stream, with RAM's pages cut out.
  static let streamStateName = "qemu-stream"
  static let streamFormat = "qemu-migration-stream"

  /// What messages call the stream.
  let title: String
  let contents: QEMUStreamContents
  /// The guest's RAM, in the order in which its blocks make up flat RAM.
  private let ramBlocks: [QEMURAMBlock]
  private(set) var streamState: DeviceState
  /// More facts may be added before ``deviceStates()``.
  var record: QEMUMachineRecord
  /// What QEMU calls the VM, if that is known.
  var vmName: String?

  /// Lets the restored guest run although it was stopped for its capture.
  ///
  /// - Returns: `false` when the stream does not have it as paused.
  mutating func resume() -> Bool { QEMURunState.resume(&streamState.data) }

  /// Whether the stream had the guest's RAM. With `x-ignore-shared` it may not.
  let hasRAM: Bool

  /// Whether the stream has sent RAM, but not all of it.
  private let lacksPages: Bool

  /// Receives a stream.
  ///
  /// - Parameters:
  ///   - ramBlockNames: The blocks that are the guest's RAM, in the order in which they make up flat
  ///     RAM, where that is known.
  ///   - isBackground: Whether it is a background snapshot.
  ///   - spoolDirectory: Where RAM is put down until it is saved, in a file without a name, unless the source is a
  ///     regular file.
  /// - Throws: ``VMCheckpointError`` that names what cannot be parsed safely. Nothing is left.
  init(
    _ source: QEMUStreamSource,
    ramBlockNames: [String]? = nil,
    isBackground: Bool = false,
    spoolDirectory: String,
    control: OperationControl
  ) throws(VMCheckpointError) {
    let title = "QEMU stream \(quotedName(source.name))"
    let contents = try source.withDescriptor(title: title, control.cancellation) {
      descriptor throws(VMCheckpointError) in
      let input = try QEMUStreamInput(
        descriptor: descriptor,
        name: title,
        cancellation: control.cancellation
      )
      var parser = QEMUStreamParser(
        input,
        isBackground: isBackground,
        spoolDirectory: spoolDirectory,
        control: control
      )
      return try parser.run()
    }
    guard let indices = QEMURAMBlock.indicesOfRAM(contents.blocks, named: ramBlockNames) else {
      let names = contents.blocks.prefix(16).map { quotedName($0.text) }.joined(separator: ", ")
      throw .invalidData(
        "\(title): which block is the guest's RAM cannot be told from \(names)",
        hint: "call the memory backend pc.ram; save RAM in several blocks through the monitor, "
          + "with qemu:"
      )
    }
    self.title = title
    self.contents = contents
    ramBlocks = indices.map { contents.blocks[$0] }
    let sentPageCounts = ramBlocks.map { contents.pages.sentPageCount(of: $0) }
    hasRAM = sentPageCounts.contains { $0 > 0 }
    lacksPages = hasRAM && zip(ramBlocks, sentPageCounts).contains { $0.pageCount != $1 }
    for (block, sentPageCount) in zip(ramBlocks, sentPageCounts) {
      let mayBeLeftOut = contents.ignoresShared && !hasRAM
      guard mayBeLeftOut || (contents.ignoresShared ? sentPageCount == block.pageCount : hasRAM)
      else {
        throw .invalidData(
          "\(title): RAM block \(quotedName(block.text)) has \(sentPageCount) of its "
            + "\(block.pageCount) pages"
        )
      }
    }
    let (data, ramOffset) = try contents.deviceState(withoutPagesOf: indices)
    streamState = DeviceState(
      name: Self.streamStateName,
      format: Self.streamFormat,
      version: QEMUStreamFormat.version,
      data: data
    )
    record = QEMUMachineRecord(
      machine: contents.machineName,
      ramBlocks: ramBlocks.map { .init(name: $0.text, byteCount: $0.byteCount) },
      ramOffset: ramOffset
    )
  }

  /// Proves that this user recorded what ``record`` and the stream hold now.
  mutating func prove(with key: CommandKey) {
    RecordedCommand.prove(&record, stream: streamState.data, with: key)
  }

  /// What is saved beside RAM.
  func deviceStates() throws(VMCheckpointError) -> [DeviceState] {
    [try record.deviceState(), streamState]
  }

  /// Where RAM is, as long as this value lives.
  ///
  /// - Parameters:
  ///   - given: Where RAM lies, if the caller knows better than the machine.
  ///   - machineLayout: Where RAM lies in the machine, if that was read from it; else its type says.
  ///   - paths: A file for each block, if the stream did not have them.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  func ram(
    _ given: RAMLayoutSource,
    machineLayout: RAMLayout? = nil,
    paths: [String]? = nil
  ) throws(VMCheckpointError) -> QEMUCapturedRAM {
    guard hasRAM || paths != nil else {
      throw .invalidData(
        "the stream does not hold the guest's RAM, which is shared and was left out",
        hint: "migrate without x-ignore-shared, or save a running VM with qemu:"
      )
    }
    let layout = try QEMUCapturedRAM.layout(
      given,
      machineLayout: machineLayout,
      machine: contents.machineName,
      blocks: ramBlocks.map { ($0.text, $0.byteCount) }
    )
    let blocks = ramBlocks.enumerated().map { index, block in
      hasRAM
        ? RAMPlacement.Block(byteCount: block.byteCount, fileOffset: block.spoolOffset)
        : RAMPlacement.Block(byteCount: block.byteCount, fileIndex: index, fileOffset: 0)
    }
    let placement = RAMPlacement(layout, blocks: blocks)
    return QEMUCapturedRAM(
      layout: layout,
      paths: hasRAM ? (contents.pages as? QEMURAMSpool).map { [$0.path] } ?? [] : paths!,
      placement: placement,
      inPlace: hasRAM ? contents.pages as? QEMURAMInPlace : nil,
      absent: lacksPages ? try absentPages(placement) : AbsentPages()
    )
  }

  /// The pages of RAM that never came. QEMU sends each at least once, zeros as well, but for those that the guest
  /// has called free by virtio-balloon's free page hints: what these held is unknown.
  private func absentPages(_ placement: RAMPlacement) throws(VMCheckpointError) -> AbsentPages {
    var absent = AbsentPages()
    for piece in placement.pieces.sorted(by: { $0.firstPFN < $1.firstPFN }) {
      for index in 0..<piece.pageCount {
        let offset = piece.fileOffset + index << UInt64(Page.shift)
        guard !contents.pages.isSent(at: offset) else { continue }
        absent.append((piece.firstPFN + index)..<(piece.firstPFN + index + 1))
        guard absent.runs.count <= AbsentPages.maximumRunCount else {
          throw .invalidData(
            "\(title) lacks pages in more than \(AbsentPages.maximumRunCount) places, which are too many"
          )
        }
      }
    }
    return absent
  }
}
