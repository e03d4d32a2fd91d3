public import VMCheckpoint

/// An ELF core in a file, as something to save. RAM is read in place.
struct ELFFileSource: CaptureSource {
  let file: String

  var path: String? { file }

  var names: CaptureNames {
    let name = CaptureNames.lastComponent(of: file)
    return CaptureNames(snapshot: name, vm: name, description: "elf:\(file)")
  }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    let name = "ELF core \(quotedName(file))"
    try context.requireNoLayout(name: name)
    var states: [DeviceState] = []
    var guest = try MappedDump.open(path: file, noun: "ELF core") {
      dump throws(VMCheckpointError) in
      let core = try ELFCore(reading: &dump)
      let map = try LoadMap(core.loads, isX86: core.machine.isX86)
      ELFWarnings.report(core, map, name: name, context.control)
      states = core.deviceStates
      return map
    }
    guest.deviceStates = states
    return try use(guest)
  }
}

/// An ELF core from a pipe, as something to save: headers and notes first, then RAM in ascending order.
struct ELFStreamSource: CaptureSource {
  let fileDescriptor: Int32

  var path: String? { nil }

  var names: CaptureNames {
    CaptureNames(snapshot: "stdin", vm: "stdin", description: "elf:-")
  }

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    let name = "ELF core \(quotedName("stdin"))"
    try context.requireNoLayout(name: name)
    let stream = StreamReader(
      descriptor: fileDescriptor,
      name: name,
      cancellation: context.control.cancellation
    )
    let guest: CapturedGuest
    do throws(VMCheckpointError) {
      var head = ELFStreamHead(stream)
      let core = try ELFCore(reading: &head)
      let map = try LoadMap(core.loads, isX86: core.machine.isX86)
      let ram = try ELFStreamRAM(map, head: head, stream: stream, name: name)
      ELFWarnings.report(core, map, name: name, context.control)
      var captured = CapturedGuest(layout: map.layout) { keptPFNs in
        ELFStreamRAMReader(ram, keptPFNs: keptPFNs)
      }
      captured.deviceStates = core.deviceStates
      captured.absent = map.absent
      guest = captured
    } catch {
      // What the reading itself meets names the stream already.
      throw error.code == .invalidData ? error.naming(name) : error
    }
    return try use(guest)
  }
}

extension ELFCore {
  /// What is saved beside RAM: the notes, and with them the machine, unless there are none.
  fileprivate var deviceStates: [DeviceState] {
    notes == .none ? [] : [notes.deviceState]
  }
}

/// What a user is told of a core that is saved.
private enum ELFWarnings {
  static func report(
    _ core: ELFCore,
    _ map: LoadMap,
    name: String,
    _ control: OperationControl
  ) {
    for warning in core.warnings { control.onWarning?("\(name): \(warning)") }
    if !map.absent.isEmpty {
      control.onWarning?(
        "\(name): \(map.absent.pageCount) pages of RAM are not in the file and are recorded as absent: "
          + "the dump may have been filtered"
      )
    }
    if map.missingByteCount > 0 {
      control.onWarning?(
        "\(name): of pages that are in the file in part, \(map.missingByteCount) bytes are missing and are "
          + "stored as zeros"
      )
    }
    if let warning = map.paddingWarning(noun: "loads") {
      control.onWarning?("\(name): \(warning)")
    }
  }
}

extension RAMInput {
  /// An ELF core of a guest, read in place. It says where RAM is; its notes are kept as a device state.
  public static func elf(path: String) -> RAMInput { RAMInput(ELFFileSource(file: path)) }

  /// The same from a pipe, whose headers and notes must come before its RAM, and RAM in ascending order. The
  /// descriptor stays the caller's.
  public static func elf(fileDescriptor: Int32) -> RAMInput {
    RAMInput(ELFStreamSource(fileDescriptor: fileDescriptor))
  }
}
