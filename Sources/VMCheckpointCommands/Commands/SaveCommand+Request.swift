import VMCheckpoint

extension SaveCommand {
  /// What the arguments ask for. Reads the overlays.
  func makeRequest(in session: CommandSession) throws(VMCheckpointError) -> SaveRequest {
    let source = try SourceArgument(source)
    let layout = try makeLayout(source: source)
    if leaveStopped, case .qemu = source {
    } else if leaveStopped {
      throw VMCheckpointError(
        .invalidArgument,
        "--leave-stopped goes with a SOURCE of qemu:",
        hint: "leave it out"
      )
    }
    if let name { try SnapshotName.check(name) }
    if let vm { try SnapshotName.check(vm, what: "VM name") }
    let parent = try makeParent()
    let tags = try TagArgument.dictionary(tag)
    return SaveRequest(
      input: try makeInput(source, in: session),
      layout: layout,
      name: name,
      vm: vm,
      parent: parent,
      tags: tags,
      overlays: try readOverlays(source: source, in: session),
      compression: compression
    )
  }

  private func makeInput(
    _ source: SourceArgument,
    in session: CommandSession
  ) throws(VMCheckpointError) -> RAMInput {
    switch source {
    case .file(let path): return .file(path: path)
    case .propolis(let path): return .propolis(path: path)
    case .standardInput:
      guard !session.isTerminal(session.standardInput) else {
        throw VMCheckpointError(
          .invalidArgument,
          "standard input is a terminal and not a guest's RAM",
          hint: "redirect or pipe the RAM, or name a file"
        )
      }
      return .stream(fileDescriptor: session.standardInput, name: "stdin")
    case .qemuStream(let path): return .qemuStream(.file(path: path))
    case .qemuStreamFromStandardInput:
      guard !session.isTerminal(session.standardInput) else {
        throw VMCheckpointError(
          .invalidArgument,
          "standard input is a terminal and not a migration stream",
          hint: "migrate to exec:, or name a file"
        )
      }
      return .qemuStream(.descriptor(session.standardInput, name: "stdin"))
    case .qemu(let socketPath):
      return .qemuLive(
        QEMULiveSource(
          socketPath: socketPath,
          leavesStopped: leaveStopped,
          guardCommand: ["/proc/self/exe", GuardCommand.name]
        )
      )
    }
  }

  private func makeLayout(source: SourceArgument) throws(VMCheckpointError) -> RAMLayoutSource {
    if case .propolis = source {
      guard region.isEmpty, qemuMachine == nil, ramSize == nil else {
        throw VMCheckpointError(
          .invalidArgument,
          "a Propolis snapshot tells itself where its RAM lies",
          hint: "leave --region, --qemu-machine and --ram-size out"
        )
      }
      return .contiguous
    }
    guard let qemuMachine else {
      guard ramSize == nil else {
        throw VMCheckpointError(
          .invalidArgument,
          "--ram-size goes with --qemu-machine",
          hint: "leave it out: the source's size is the RAM's size"
        )
      }
      return region.isEmpty ? .contiguous : .regions(try RegionArgument.layout(region))
    }
    guard region.isEmpty else {
      throw VMCheckpointError(
        .invalidArgument,
        "--region and --qemu-machine exclude each other",
        hint: "give one"
      )
    }
    guard ramSize != nil || source != .standardInput else {
      throw VMCheckpointError(
        .invalidArgument,
        "--qemu-machine needs --ram-size when SOURCE is -",
        hint: "the size of a stream is known only at its end"
      )
    }
    if let ramSize {
      do {
        _ = try qemuMachine.layout(ramByteCount: ramSize)
      } catch {
        throw VMCheckpointError(
          .invalidArgument,
          "--ram-size: \(error.message)",
          hint: error.hint
        )
      }
    }
    return .qemu(qemuMachine, ramByteCount: ramSize)
  }

  private func makeParent() throws(VMCheckpointError) -> ParentChoice {
    guard let parent else { return noParent ? .none : .newestOfSameVM }
    guard !noParent else {
      throw VMCheckpointError(
        .invalidArgument,
        "--parent and --no-parent exclude each other",
        hint: "give one"
      )
    }
    return .snapshot(try SnapshotReference(parent))
  }

  private func readOverlays(
    source: SourceArgument,
    in session: CommandSession
  ) throws(VMCheckpointError) -> OverlayDocument {
    guard let overlays else { return OverlayDocument(guestOSID: nil, records: []) }
    let file = InputFile(
      name: overlays == "-"
        ? "overlays from standard input" : "overlays file \(quotedName(overlays))",
      maximumByteCount: OverlayDocument.maximumByteCount
    )
    let json: [UInt8]
    if overlays == "-" {
      guard !source.isStandardInput else {
        throw VMCheckpointError(
          .invalidArgument,
          "SOURCE and --overlays are both standard input",
          hint: "name a file for one of them"
        )
      }
      json = try file.read(descriptor: session.standardInput)
    } else {
      json = try file.read(path: overlays)
    }
    do {
      return try OverlayDocument(json: json)
    } catch {
      throw VMCheckpointError(error.code, "\(file.name): \(error.message)", hint: error.hint)
    }
  }
}
