package import VMCheckpoint
import VMCheckpointFormats

extension SaveCommand {
  /// What the arguments ask for. Reads the overlays.
  package func makeRequest(
    in session: CommandSession,
    storePath: String
  ) throws(VMCheckpointError) -> SaveRequest {
    let source = try SourceArgument(source)
    let format = try source.format()
    let layout = try makeLayout(source, format)
    guard !leaveStopped || format.savesLive else {
      throw VMCheckpointError(
        .invalidArgument,
        "--leave-stopped goes with a SOURCE of qemu:",
        hint: "leave it out"
      )
    }
    guard format.readsDiffs || (base == nil && diff.isEmpty && vmstate == nil) else {
      throw VMCheckpointError(
        .invalidArgument,
        "--base, --diff and --vmstate go with a SOURCE of firecracker:",
        hint: "leave them out"
      )
    }
    guard format.namesDomain || connect == nil else {
      throw VMCheckpointError(
        .invalidArgument,
        "--connect goes with a SOURCE of libvirt:",
        hint: "leave it out"
      )
    }
    if let name { try SnapshotName.check(name) }
    if let vm { try SnapshotName.check(vm, what: "VM name") }
    let tags = try TagArgument.dictionary(tag)
    let base = try findBase(storePath)
    let parent = try makeParent(base)
    return SaveRequest(
      input: try makeInput(source, format, base, in: session),
      layout: layout,
      name: name,
      vm: vm ?? base?.vm,
      parent: parent,
      tags: tags,
      overlays: try readOverlays(source: source, in: session),
      findsOverlays: overlays != Self.noOverlays,
      compression: compression
    )
  }

  private func makeInput(
    _ source: SourceArgument,
    _ format: any MemoryFormat,
    _ base: Base?,
    in session: CommandSession
  ) throws(VMCheckpointError) -> RAMInput {
    let readsStandardInput = source.isStandardInput && format.readsStreams
    guard !readsStandardInput || !session.isTerminal(session.standardInput) else {
      throw VMCheckpointError(
        .invalidArgument,
        "standard input is a terminal, and SOURCE is -",
        hint: "redirect or pipe the guest's RAM, or name a file"
      )
    }
    return try format.input(
      SourceReference(
        place: source.isStandardInput
          ? .standardInput(fileDescriptor: session.standardInput) : .path(source.path),
        inspectStream: source.formatName == nil ? FormatRegistry.refuseStream : nil,
        leavesStopped: leaveStopped,
        guardCommand: ["/proc/self/exe", GuardCommand.name],
        base: base?.base,
        diffs: diff,
        statePath: vmstate,
        connection: connect
      )
    )
  }

  private func makeLayout(
    _ source: SourceArgument,
    _ format: any MemoryFormat
  ) throws(VMCheckpointError) -> RAMLayoutSource {
    if format.describesLayout {
      guard region.isEmpty, qemuMachine == nil, ramSize == nil else {
        throw VMCheckpointError(
          .invalidArgument,
          "a source in the format \(format.name) says itself where its RAM lies",
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
    guard ramSize != nil || !source.isStandardInput || !format.needsRAMSize else {
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

  /// What --base says, and the snapshot that it names: the new one is of the same VM, and descends from it.
  private struct Base {
    var base: DiffBase
    var vm: String?
    var parent: SnapshotReference?
  }

  private func findBase(_ storePath: String) throws(VMCheckpointError) -> Base? {
    guard let base else { return nil }
    guard base != Self.zeroBase else { return Base(base: .zeros) }
    let found = try Store.open(at: storePath).snapshot(SnapshotReference(base)).summary
    // Another save must not change what `latest` means.
    let reference = try SnapshotReference(found.uuid)
    return Base(base: .snapshot(reference), vm: found.vm, parent: reference)
  }

  /// The value of --base for a file whose holes are zeros.
  private static let zeroBase = "none"

  private func makeParent(_ base: Base?) throws(VMCheckpointError) -> ParentChoice {
    guard let parent else {
      guard !noParent else { return .none }
      return base?.parent.map { .snapshot($0) } ?? .newestOfSameVM
    }
    guard !noParent else {
      throw VMCheckpointError(
        .invalidArgument,
        "--parent and --no-parent exclude each other",
        hint: "give one"
      )
    }
    return .snapshot(try SnapshotReference(parent))
  }

  /// The value of --overlays that turns the search for overlays off.
  private static let noOverlays = "none"

  private func readOverlays(
    source: SourceArgument,
    in session: CommandSession
  ) throws(VMCheckpointError) -> OverlayDocument {
    guard let overlays, overlays != Self.noOverlays else {
      return OverlayDocument(guestOSID: nil, records: [])
    }
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
