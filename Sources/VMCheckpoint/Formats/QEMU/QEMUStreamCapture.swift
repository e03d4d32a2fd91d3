import SystemPackage

/// A migration stream that was received, ready to be saved.
struct QEMUStreamCapture {
  /// The device state of a migration stream, with RAM's pages cut out.
  static let streamStateName = "qemu-stream"
  static let streamFormat = "qemu-migration-stream"

  private let contents: QEMUStreamContents
  let main: QEMURAMBlock
  private var streamState: DeviceState
  /// More facts may be added before ``deviceStates()``.
  var record: QEMUMachineRecord

  /// Lets the restored guest run although it was stopped for its capture.
  ///
  /// - Returns: `false` when the stream does not have it as paused.
  mutating func resume() -> Bool { QEMURunState.resume(&streamState.data) }

  /// Whether the stream had the guest's RAM. With `x-ignore-shared` it may not.
  let hasRAM: Bool

  /// Receives a stream.
  ///
  /// - Parameters:
  ///   - ramBlockName: The block that is the guest's RAM, where that is known.
  ///   - spoolDirectory: Where RAM is put down until it is saved, in a file without a name.
  /// - Throws: ``VMCheckpointError`` that names what cannot be parsed safely. Nothing is left.
  init(
    _ source: QEMUStreamSource,
    ramBlockName: String? = nil,
    spoolDirectory: String,
    control: OperationControl
  ) throws(VMCheckpointError) {
    let input = try QEMUStreamInput(source, cancellation: control.cancellation)
    var parser = QEMUStreamParser(input, spoolDirectory: spoolDirectory, control: control)
    contents = try parser.run()
    guard let index = QEMURAMBlock.indexOfMain(contents.blocks, named: ramBlockName) else {
      let names = contents.blocks.prefix(16).map { quotedName($0.text) }.joined(separator: ", ")
      throw .invalidData(
        "\(input.name): which block is the guest's RAM cannot be told from \(names)",
        hint: "call the memory backend pc.ram; RAM in several blocks is not supported"
      )
    }
    main = contents.blocks[index]
    let sentPageCount = contents.spool.sentPageCount(of: main)
    hasRAM = sentPageCount > 0
    guard contents.ignoresShared ? !hasRAM || sentPageCount == main.pageCount : hasRAM else {
      throw .invalidData(
        "\(input.name): RAM block \(quotedName(main.text)) has \(sentPageCount) of its "
          + "\(main.pageCount) pages"
      )
    }
    let (data, ramOffset) = try contents.deviceState(mainIndex: index)
    streamState = DeviceState(
      name: Self.streamStateName,
      format: Self.streamFormat,
      version: QEMUStreamFormat.version,
      data: data
    )
    record = QEMUMachineRecord(
      machine: contents.machineName,
      ramBlock: main.text,
      ramByteCount: main.byteCount,
      ramOffset: ramOffset
    )
  }

  /// What `request` asks for, with what was received in the place of its input.
  ///
  /// - Parameter ramPath: Where RAM is, flat, if the stream did not have it.
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`.
  func completed(
    _ request: SaveRequest,
    ramPath: String?
  ) throws(VMCheckpointError) -> SaveRequest {
    guard hasRAM || ramPath != nil else {
      throw .invalidData(
        "the stream does not hold the guest's RAM, which is shared and was left out",
        hint: "migrate without x-ignore-shared, or save a running VM with qemu:"
      )
    }
    var request = request
    request.layout = .regions(try layout(request.layout))
    request.deviceStates += try deviceStates()
    request.input = .file(path: hasRAM ? try ramFile() : ramPath!)
    return request
  }

  /// What is saved beside RAM.
  func deviceStates() throws(VMCheckpointError) -> [DeviceState] {
    [try record.deviceState(), streamState]
  }

  /// RAM's layout by the machine's type, unless the caller knows better.
  func layout(_ given: RAMLayoutSource) throws(VMCheckpointError) -> RAMLayout {
    let layout: RAMLayout
    switch given {
    case .regions(let regions): layout = regions
    case .qemu(let machine, _): layout = try machine.layout(ramByteCount: main.byteCount)
    case .contiguous:
      guard let machine = QEMUMachine(versionedName: contents.machineName) else {
        throw .invalidData(
          "how RAM lies in a machine of type \(quotedName(contents.machineName)) is unknown",
          hint: "give its memory regions with --region, or --qemu-machine"
        )
      }
      layout = try machine.layout(ramByteCount: main.byteCount)
    }
    guard layout.fileByteCount == main.byteCount else {
      throw .invalidData(
        """
        RAM block \(quotedName(main.text)) has \(main.byteCount) bytes, and the memory regions \
        hold \(layout.fileByteCount)
        """
      )
    }
    return layout
  }

  /// A file that holds RAM, flat, as long as this value lives. Call it last: nothing else of the
  /// stream's pages is there afterwards.
  func ramFile() throws(VMCheckpointError) -> String {
    try contents.spool.keepOnly(main)
    return contents.spool.path
  }
}
