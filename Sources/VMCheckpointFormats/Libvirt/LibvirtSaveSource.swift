import Glibc
import VMCheckpoint

/// A libvirt save image, as something to save.
struct LibvirtSaveSource: CaptureSource {
  /// The header and the description: XML, cookie and the zeros behind them.
  static let stateName = "libvirt-save"
  static let stateFormat = QEMUStoredState.libvirtFormat
  static let stateVersion: UInt32 = 2

  let source: QEMUStreamSource

  var path: String? { source.path }

  var names: CaptureNames { source.names(scheme: "libvirt-save") }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    let title = "libvirt save image \(quotedName(source.name))"
    let cancellation = context.control.cancellation
    let (capture, description) = try source.withDescriptor(title: title, cancellation) {
      descriptor throws(VMCheckpointError) in
      try Self.receive(
        StreamReader(descriptor: descriptor, name: title, cancellation: cancellation),
        name: source.name,
        spoolDirectory: context.spoolDirectory(),
        control: context.control
      )
    }
    // RAM is read from the capture's spool.
    defer { withExtendedLifetime(capture) {} }
    var guest = try capture.guest(context)
    guest.deviceStates.append(description)
    return try use(guest)
  }

  /// Reads an image to its end.
  ///
  /// - Parameters:
  ///   - name: For messages and the snapshot's name.
  ///   - spoolDirectory: Where RAM is put down until it is saved.
  /// - Returns: The guest, and what libvirt knows of it.
  /// - Throws: ``VMCheckpointError``. Nothing is left.
  static func receive(
    _ reader: StreamReader,
    name: String,
    spoolDirectory: String,
    control: OperationControl
  ) throws(VMCheckpointError) -> (capture: QEMUStreamCapture, description: DeviceState) {
    let bytes = try read(LibvirtSaveHeader.byteCount, reader)
    let header = try LibvirtSaveHeader(bytes, name: reader.name)
    let data = try read(
      header.dataByteCount,
      reader,
      place: " in its description",
      startingAt: bytes.count
    )
    try header.checkCookie(in: data, name: reader.name)
    let capture = try receiveStream(header.format, reader) { descriptor throws(VMCheckpointError) in
      try QEMUStreamCapture(
        .descriptor(descriptor, name: name),
        spoolDirectory: spoolDirectory,
        control: control
      )
    }
    let description = DeviceState(
      name: stateName,
      format: stateFormat,
      version: stateVersion,
      data: header.uncompressedBytes + data
    )
    return (capture, description)
  }

  private static func read(
    _ byteCount: Int,
    _ reader: StreamReader,
    place: String = "",
    startingAt start: Int = 0
  ) throws(VMCheckpointError) -> [UInt8] {
    let memory = try LargeMemory.allocate(byteCount: byteCount)
    defer { LargeMemory.free(memory) }
    var count = 0
    while count < byteCount {
      let got = try reader.read(into: UnsafeMutableRawBufferPointer(rebasing: memory[count...]))
      guard got > 0 else {
        throw .invalidData("\(reader.name) ends too early\(place), after \(start + count) bytes")
      }
      count += got
    }
    return Array(memory)
  }

  /// Reads on for a while, at most a few blocks of any method.
  private static func drain(_ descriptor: Int32) {
    var rest = 16 << 20
    withUnsafeTemporaryAllocation(byteCount: 64 << 10, alignment: 16) { buffer in
      while rest > 0 {
        var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&waiting, 1, drainMilliseconds) > 0 else { return }
        let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
        guard count > 0 else { return }
        rest -= count
      }
    }
  }

  /// How long to wait for more of data that is not what it should be: it may come from a pipe that stays open.
  private static let drainMilliseconds: Int32 = 5000

  /// Lets `receive` read the migration stream, to which `reader` has come.
  private static func receiveStream(
    _ format: LibvirtSaveHeader.Format,
    _ reader: StreamReader,
    _ receive: (_ descriptor: Int32) throws(VMCheckpointError) -> QEMUStreamCapture
  ) throws(VMCheckpointError) -> QEMUStreamCapture {
    let pipe: any DecodingPipe
    switch format {
    case .raw, .sparse: return try receive(reader.descriptor)
    case .compressed(let method): pipe = try DecompressingPipe(method, from: reader)
    case .lzop: pipe = try ProgramPipe(["lzop", "-dc"], package: "lzop", from: reader)
    }
    let captured: QEMUStreamCapture
    do throws(VMCheckpointError) {
      captured = try receive(pipe.descriptor)
    } catch {
      // Damaged data may come out as another stream before its checksum shows that.
      if error.code == .invalidData { drain(pipe.descriptor) }
      // Why the data ended says more than that it did.
      throw pipe.finish() ?? error
    }
    if let failure = pipe.finish() { throw failure }
    return captured
  }
}
