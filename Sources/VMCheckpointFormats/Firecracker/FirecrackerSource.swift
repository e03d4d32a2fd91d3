import SystemPackage
import VMCheckpoint

/// A snapshot of Firecracker, as something to save: a full one, a diff over a snapshot of the store, or either
/// with more diffs over it.
struct FirecrackerSource: CaptureSource {
  let file: String
  let base: DiffBase?
  let diffs: [String]
  let statePath: String?

  var path: String? { file }

  /// With the files that are found beside those that are named.
  var readPaths: [String] {
    let found = (try? findFiles()) ?? []
    return [file] + diffs + found.flatMap { [$0.memoryPath, $0.statePath].compactMap { $0 } }
  }

  var names: CaptureNames {
    let name = CaptureNames.lastComponent(of: diffs.last ?? file)
    return CaptureNames(snapshot: name, vm: name, description: "firecracker:\(file)")
  }

  private static let memoryNoun = "Firecracker memory file"

  func capture<Outcome>(
    _ context: CaptureContext,
    _ use: (CapturedGuest) throws(VMCheckpointError) -> Outcome
  ) throws(VMCheckpointError) -> Outcome {
    try context.requireNoLayout("Firecracker snapshot \(quotedName(file))")
    let links = try findFiles()
    warnOfGuess(links, context.control)
    let (opened, byteCount) = try open(links)
    let (state, layout, stateName) = try readStates(links, byteCount: byteCount)
    let baseReader = try openBase(context, state, layout)
    try checkHoles(opened, layout, context.control)
    try checkUnplugged(opened, layout, context.control)
    let ram = LayeredRAM(layout.layout, files: opened, base: baseReader)
    var guest: CapturedGuest
    if opened.files.count == 1, baseReader == nil {
      guest = CapturedGuest(layout: layout.layout, files: opened)
    } else {
      guest = CapturedGuest(layout: layout.layout) { keptPFNs in
        LayeredRAMReader(ram, keptPFNs: keptPFNs)
      }
      guest.readPage = { pfn throws(VMCheckpointError) in try ram.page(at: pfn) }
    }
    guest.deviceStates = [
      DeviceState(
        name: FirecrackerFiles.stateName,
        format: FirecrackerFiles.stateFormat,
        version: FirecrackerFiles.stateVersion,
        data: state.bytes
      )
    ]
    if context.looksForOverlays { guest.overlays = try overlays(state, ram, stateName) }
    for warning in warnings(state, looksForOverlays: context.looksForOverlays) {
      context.control.onWarning?("\(stateName): \(warning)")
    }
    return try use(guest)
  }

  // MARK: Files

  private func findFiles() throws(VMCheckpointError) -> [FirecrackerFiles] {
    var links: [FirecrackerFiles] = []
    for (index, path) in ([file] + diffs).enumerated() {
      let isLast = index == diffs.count
      links.append(
        try FirecrackerFiles(
          path,
          givenStatePath: isLast ? statePath : nil,
          needsState: isLast
        )
      )
    }
    return links
  }

  /// Says which vmstate is taken where it may as well be that of a memory file further down.
  private func warnOfGuess(_ links: [FirecrackerFiles], _ control: OperationControl) {
    guard let last = links.last, let state = last.statePath, !last.isNamedAlike,
      links.dropLast().contains(where: {
        $0.memoryPath != last.memoryPath && last.isState(beside: $0.memoryPath)
      })
    else { return }
    control.onWarning?(
      "Firecracker vmstate file \(quotedName(state)) is taken for the one that was written with "
        + "\(quotedName(last.memoryPath)), the last memory file"
    )
  }

  /// Opens the memory files, all of which have one size.
  ///
  /// - Returns: The files, the uppermost first.
  private func open(
    _ links: [FirecrackerFiles]
  ) throws(VMCheckpointError) -> (files: OpenRAMFiles, byteCount: UInt64) {
    var files: [OpenRAMFiles.File] = []
    var size: UInt64 = 0
    do throws(VMCheckpointError) {
      for link in links {
        let path = link.memoryPath
        let (descriptor, byteCount) = try FileRAMReader.open(path: path, noun: Self.memoryNoun)
        files.append(.init(descriptor: descriptor, path: path))
        if files.count == 1 { size = byteCount }
        guard byteCount == size else {
          throw .invalidData(
            "\(Self.memoryNoun) \(quotedName(path)) has \(byteCount) bytes, and "
              + "\(quotedName(files[0].path)) has \(size)",
            hint: "diffs of one VM have the size of its memory"
          )
        }
      }
      return (OpenRAMFiles(files.reversed()), size)
    } catch {
      for file in files { try? file.descriptor.close() }
      throw error
    }
  }

  private typealias ReadState = (state: FirecrackerState, layout: FirecrackerLayout, name: String)

  /// Reads the vmstate files that are known, and checks that they are of one VM.
  ///
  /// - Returns: The last one, which is of the moment that is saved.
  private func readStates(
    _ links: [FirecrackerFiles],
    byteCount: UInt64
  ) throws(VMCheckpointError) -> ReadState {
    var states: [ReadState] = []
    for link in links {
      guard let path = link.statePath else { continue }
      let noun = "Firecracker vmstate file"
      let bytes = try SourceDirectory.read(
        path,
        noun: noun,
        maximumByteCount: FirecrackerState.maximumByteCount
      )
      let name = "\(noun) \(quotedName(path))"
      do throws(VMCheckpointError) {
        let state = try FirecrackerState(bytes)
        let layout = try FirecrackerLayout(state, fileByteCount: byteCount)
        if let first = states.first {
          try Self.requireSame(state, layout, as: first.state, first.layout.layout, first.name)
        }
        states.append((state, layout, name))
      } catch {
        throw error.continuing(name)
      }
    }
    guard let last = states.last, links.last?.statePath != nil else {
      throw VMCheckpointError(
        .invalidArgument,
        "the vmstate file of \(quotedName(links.last?.memoryPath ?? file)) is not known",
        hint: "name it with --vmstate"
      )
    }
    return last
  }

  private static func requireSame(
    _ state: FirecrackerState,
    _ layout: FirecrackerLayout,
    as other: FirecrackerState?,
    _ otherLayout: RAMLayout,
    _ name: String
  ) throws(VMCheckpointError) {
    if let other, state.version != other.version || state.machine != other.machine {
      throw .invalidData(
        "has \(state.versionText), and \(name) has \(other.versionText)",
        hint: "a diff goes with a base of the same VM and Firecracker"
      )
    }
    guard layout.layout.regions.map(\.gpa) == otherLayout.regions.map(\.gpa),
      layout.layout.regions.map(\.byteCount) == otherLayout.regions.map(\.byteCount)
    else {
      throw .invalidData(
        "describes RAM at other addresses than \(name)",
        hint: "a diff goes with a base of the same VM and Firecracker"
      )
    }
  }

  // MARK: What is beneath

  private func openBase(
    _ context: CaptureContext,
    _ state: FirecrackerState,
    _ layout: FirecrackerLayout
  ) throws(VMCheckpointError) -> SnapshotReader? {
    guard case .snapshot(let reference) = base else { return nil }
    let (reader, deviceStates) = try context.stored(reference)
    let name = "snapshot \(quotedName(reader.name))"
    // A hole over an absent page would become a page of zeros.
    guard reader.absent.isEmpty else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(name) cannot be a diff's base: the dump that it was saved from left \(reader.absent.pageCount) pages out"
      )
    }
    let stored = deviceStates.first { $0.format == FirecrackerFiles.stateFormat }
    let baseState: FirecrackerState?
    do throws(VMCheckpointError) {
      baseState = if let stored { try FirecrackerState(stored.data) } else { nil }
    } catch {
      throw VMCheckpointError(.corrupt, "\(name) is damaged: its vmstate \(error.message)")
    }
    do throws(VMCheckpointError) {
      try Self.requireSame(state, layout, as: baseState, reader.layout, name)
    } catch {
      throw error.continuing("Firecracker snapshot \(quotedName(diffs.last ?? file))")
    }
    return reader
  }

  /// Refuses a diff whose base is not given, and names one without holes.
  private func checkHoles(
    _ files: OpenRAMFiles,
    _ layout: FirecrackerLayout,
    _ control: OperationControl
  ) throws(VMCheckpointError) {
    for (index, file) in files.files.enumerated() {
      let isFirst = index == files.files.count - 1
      if isFirst, base == .zeros { continue }
      // A copy of the descriptor: each list of files closes its own.
      let alone = LayeredRAM(layout.layout, files: try file.duplicated(), base: nil)
      let hole = try alone.firstHole()
      if isFirst, base == nil, let hole {
        throw .invalidData(
          "\(Self.memoryNoun) \(quotedName(file.path)) has a hole at GPA \(hexString(hole.gpa)), as a diff has",
          hint:
            "name the snapshot that it is based on with --base; --base none, if its holes are zeros"
        )
      }
      if hole == nil, !isFirst || base != nil {
        control.onWarning?(
          "\(Self.memoryNoun) \(quotedName(file.path)) has no hole, and so replaces all of RAM; a copy of a "
            + "diff must keep its holes"
        )
      }
    }
  }

  /// Says that a file has bytes where no slot was plugged in. Those are holes, as Firecracker writes it, or
  /// zeros in a copy.
  private func checkUnplugged(
    _ files: OpenRAMFiles,
    _ layout: FirecrackerLayout,
    _ control: OperationControl
  ) throws(VMCheckpointError) {
    guard !layout.unplugged.isEmpty else { return }
    for file in files.files {
      for range in layout.unplugged {
        let slot = try RAMLayout(
          regions: [
            .ram(
              gpa: 0,
              byteCount: range.upperBound - range.lowerBound,
              fileOffset: range.lowerBound
            )
          ]
        )
        let alone = LayeredRAM(slot, files: try file.duplicated(), base: nil)
        guard try !alone.isZero(control.cancellation) else { continue }
        control.onWarning?(
          "\(Self.memoryNoun) \(quotedName(file.path)) has bytes in a slot that is not plugged in, at offset "
            + "\(hexString(range.lowerBound)); they are not kept"
        )
      }
    }
  }

  // MARK: Overlays

  private func overlays(
    _ state: FirecrackerState,
    _ ram: LayeredRAM,
    _ name: String
  ) throws(VMCheckpointError) -> FoundOverlays? {
    guard let processors = state.registers else { return nil }
    do throws(VMCheckpointError) {
      let registers = try HyperVMSRs(processors)
      let overlays = try registers.overlayDocument { pfn throws(VMCheckpointError) in
        try ram.page(at: pfn)
      }
      return FoundOverlays(overlays, origin: "firecracker-msrs")
    } catch {
      throw error.code == .invalidData ? error.continuing(name) : error
    }
  }

  private func warnings(_ state: FirecrackerState, looksForOverlays: Bool) -> [String] {
    guard state.version == nil else { return [] }
    let machine = state.machine == nil ? "it is taken for one of x86-64, " : ""
    let overlays = looksForOverlays ? ", and Hyper-V overlays are not looked for" : ""
    return [
      "its encoding (Firecracker 1.15 and later) cannot be read: \(machine)RAM's addresses follow from its "
        + "size, which is right without hotplugged memory\(overlays)"
    ]
  }
}

extension FirecrackerState {
  /// The MSRs of each vCPU; `nil` when they cannot be read, or there is none.
  var registers: [HyperVMSRs.Registers]? {
    machine == .x86 && version != nil ? FirecrackerMSRs.all(in: bytes) : nil
  }

  /// The version of the format and the machine, for messages.
  fileprivate var versionText: String {
    let version = version.map { "version \($0)" } ?? "version 9 or later"
    switch machine {
    case .x86: return "\(version) for x86-64"
    case .arm64: return "\(version) for arm64"
    case nil: return version
    }
  }
}

extension OpenRAMFiles.File {
  /// The same file by a descriptor of its own.
  fileprivate func duplicated() throws(VMCheckpointError) -> OpenRAMFiles {
    do {
      return OpenRAMFiles([.init(descriptor: try descriptor.duplicate(), path: path)])
    } catch {
      throw VMCheckpointError(.outOfResources, "cannot open \(quotedName(path)) again: \(error)")
    }
  }
}
