import SystemPackage
import VMCheckpoint

/// A kdump, as something to save. A file is read in place; what is flattened, or comes from a pipe, is put down in the
/// store's directory first.
struct KdumpSource: CaptureSource {
  /// Block 0 and the sub header: a device state's name and format.
  static let stateFormat = "kdump-header"
  static let stateVersion: UInt32 = 1

  let place: SourceReference.Place

  var path: String? {
    guard case .path(let path) = place else { return nil }
    return path
  }

  var names: CaptureNames {
    let name = path.map { CaptureNames.lastComponent(of: $0) } ?? "stdin"
    return CaptureNames(snapshot: name, vm: name, description: "kdump:\(path ?? "-")")
  }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    let name = "kdump \(quotedName(path ?? "stdin"))"
    try context.requireNoLayout(name: name)
    let guest: CapturedGuest
    let opened = try open()
    do throws(VMCheckpointError) {
      guest = try Self.guest(readable(opened, name, context), name: name, context.control)
    } catch {
      throw error.code == .invalidData ? error.naming(name) : error
    }
    return try use(guest)
  }

  /// The dump's descriptor, and the size of a file.
  private func open() throws(VMCheckpointError) -> (FileDescriptor, byteCount: UInt64?) {
    switch place {
    case .path(let path):
      let (descriptor, byteCount) = try FileRAMReader.open(path: path, noun: "kdump")
      return (descriptor, byteCount)
    case .standardInput(let descriptor): return (FileDescriptor(rawValue: descriptor), nil)
    }
  }

  /// The dump as a file that can be read at random.
  private func readable(
    _ opened: (FileDescriptor, byteCount: UInt64?),
    _ name: String,
    _ context: CaptureContext
  ) throws(VMCheckpointError) -> DumpFile {
    let (descriptor, byteCount) = opened
    guard let byteCount else { return try Self.spool(descriptor.rawValue, name, context) }
    do throws(VMCheckpointError) {
      let file = DumpFile(descriptor: descriptor, byteCount: byteCount)
      let magic = try file.read(
        at: 0,
        byteCount: KdumpFlattened.magic.count,
        place: "in its header"
      )
      guard magic == KdumpFlattened.magic else { return file }
      let spooled = try Self.spool(descriptor.rawValue, name, context)
      try? descriptor.close()
      return spooled
    } catch {
      try? descriptor.close()
      throw error
    }
  }

  private static func spool(
    _ descriptor: Int32,
    _ name: String,
    _ context: CaptureContext
  ) throws(VMCheckpointError) -> DumpFile {
    let input = try DumpInput(
      StreamReader(
        descriptor: descriptor,
        name: name,
        cancellation: context.control.cancellation
      )
    )
    let magic = try input.peek(count: KdumpFlattened.magic.count)
    guard magic == KdumpFlattened.magic else {
      guard magic.starts(with: KdumpHeader.magic) || magic.starts(with: KdumpHeader.oldMagic) else {
        throw .invalidData("does not begin like a kdump")
      }
      return try KdumpSpool.copy(input, in: context.spoolDirectory())
    }
    return try KdumpFlattened.assemble(input, in: context.spoolDirectory())
  }

  /// - Parameter file: Becomes the guest's.
  /// - Throws: ``VMCheckpointError``, whose message goes on after the file's name when its code is
  ///   `invalidData`. The file is closed then.
  static func guest(
    _ file: DumpFile,
    name: String,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> CapturedGuest {
    let dump: KdumpFile
    do throws(VMCheckpointError) {
      let header = try KdumpHeader(file)
      let map = try KdumpMap(header, file, control.cancellation)
      dump = KdumpFile(file, header, map, name: name)
    } catch {
      try? file.descriptor.close()
      throw error
    }
    let methods = try KdumpPageDescriptor.check(
      dump.header,
      count: dump.map.storedPageCount,
      in: file,
      control.cancellation
    )
    try requireLibraries(methods)
    let states = try deviceStates(dump.header, file)
    if !dump.map.absent.isEmpty {
      control.onWarning?(
        "\(name): \(dump.map.absent.pageCount) pages were left out of it by a filter and are recorded as absent"
      )
    }
    if dump.header.eraseInfoByteCount > 0 {
      control.onWarning?(
        "\(name): its \(dump.header.eraseInfoByteCount) bytes of erase information are not kept"
      )
    }
    var guest = CapturedGuest(layout: dump.map.layout) { keptPFNs in
      KdumpRAMReader(dump, keptPFNs: keptPFNs)
    }
    guest.deviceStates = states
    guest.absent = dump.map.absent
    return guest
  }

  /// Says before anything is stored that a library is missing.
  private static func requireLibraries(
    _ methods: Set<KdumpPageDescriptor.Method>
  ) throws(VMCheckpointError) {
    let decompressor = PageDecompressor()
    for method in methods {
      switch method {
      case .none: break
      case .zlib: try decompressor.prepare(.zlib)
      case .lzo: try decompressor.prepare(.lzo)
      case .snappy: try decompressor.prepare(.snappy)
      case .zstd: try decompressor.prepare(.zstd)
      }
    }
  }

  /// The headers as they came, and the notes: as those of an ELF core, so that a core can be written with them.
  static func deviceStates(
    _ header: KdumpHeader,
    _ file: DumpFile
  ) throws(VMCheckpointError) -> [DeviceState] {
    var notes = ELFNotes(machine: header.machine, bytes: [], alignment: 4)
    if let place = header.notes {
      notes.bytes = try bytes(place, "notes", ELFCore.maximumNoteByteCount, in: file)
    }
    let found = try notes.all()
    if let place = header.vmcoreinfo, !found.contains(where: { $0.isNamed(VMCoreInfo.name) }) {
      notes.append(
        VMCoreInfo.note(
          try bytes(place, "VMCOREINFO", Int(VMCoreInfo.maximumNoteByteCount), in: file)
        )
      )
    }
    let state = DeviceState(
      name: stateFormat,
      format: stateFormat,
      version: stateVersion,
      data: header.bytes
    )
    return notes.bytes.isEmpty ? [state] : [state, notes.deviceState]
  }

  private static func bytes(
    _ place: KdumpHeader.Place,
    _ noun: String,
    _ maximum: Int,
    in file: DumpFile
  ) throws(VMCheckpointError) -> [UInt8] {
    guard place.byteCount <= UInt64(maximum) else {
      throw .invalidData("is damaged: it has \(place.byteCount) bytes of \(noun)")
    }
    try file.requireNoGap(place.offset, place.byteCount, place: "in its \(noun)")
    return try file.read(
      at: place.offset,
      byteCount: Int(place.byteCount),
      place: "in its \(noun)"
    )
  }
}
