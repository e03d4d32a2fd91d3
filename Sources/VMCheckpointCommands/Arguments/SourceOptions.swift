import ArgumentParser
import VMCheckpoint
import VMCheckpointFormats

/// SOURCE and how it is read: what the commands have in common that capture a guest.
package struct SourceOptions: ParsableArguments {
  @Argument(
    help: ArgumentHelp("A RAM file, 'FORMAT:PATH', or '-'.", valueName: "source"),
    completion: .file()
  )
  var source: String

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The overlays that covered RAM, an overlays.json, or '-'; none: do not look for any.",
      valueName: "file"
    ),
    completion: .file(extensions: ["json"])
  )
  var overlays: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "A memory region, gpa=N,size=N[,offset=N][,name=NAME]; repeated for each.",
      valueName: "region"
    ),
    transform: RegionArgument.parse
  )
  var region: [RegionArgument] = []

  @Option(
    name: .long,
    help: ArgumentHelp("RAM lies as in QEMU's machine of this type.", valueName: "type")
  )
  var qemuMachine: QEMUMachine?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The guest's RAM: SOURCE must have as much. With --qemu-machine and '-' it is needed.",
      valueName: "size"
    ),
    transform: ByteSize.parse
  )
  var ramSize: UInt64?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "With 'firecracker:', a diff to lay over SOURCE; repeated, in the order of their making.",
      valueName: "path"
    ),
    completion: .file()
  )
  var diff: [String] = []

  @Option(
    name: .long,
    help: ArgumentHelp(
      "With 'firecracker:', the vmstate file of the last memory file. (default: the one beside it)",
      valueName: "file"
    ),
    completion: .file()
  )
  var vmstate: String?

  @Flag(name: .long, help: "With 'qemu:', do not let the VM go on when it is captured.")
  var leaveStopped = false

  @Option(
    name: .long,
    help: ArgumentHelp(
      "With 'libvirt:', the connection to libvirt. (default: the one of virsh)",
      valueName: "uri"
    )
  )
  var connect: String?

  /// Made by ArgumentParser.
  package init() {}

  /// The value of --overlays that turns the search for overlays off.
  private static let noOverlays = "none"

  /// Whether overlays that the source shows count.
  var findsOverlays: Bool { overlays != Self.noOverlays }

  /// What the arguments ask for.
  struct Source {
    var argument: SourceArgument
    var format: any MemoryFormat
    var layout: RAMLayoutSource
  }

  /// Parses SOURCE, and checks what goes with its format.
  ///
  /// - Parameter hasBase: Whether --base is given.
  func parse(hasBase: Bool) throws(VMCheckpointError) -> Source {
    let argument = try SourceArgument(source)
    let format = try argument.format()
    let layout = try makeLayout(argument, format)
    guard !leaveStopped || format.savesLive else {
      throw VMCheckpointError(
        .invalidArgument,
        "--leave-stopped goes with a SOURCE of qemu:",
        hint: "leave it out"
      )
    }
    guard format.readsDiffs || (!hasBase && diff.isEmpty && vmstate == nil) else {
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
    return Source(argument: argument, format: format, layout: layout)
  }

  /// What is read.
  ///
  /// - Parameters:
  ///   - base: What the holes of a diff are.
  ///   - maximumPauseSeconds: For how long a VM that is saved live may be stopped.
  func makeInput(
    _ source: Source,
    base: DiffBase?,
    maximumPauseSeconds: Double? = nil,
    in session: CommandSession
  ) throws(VMCheckpointError) -> RAMInput {
    let (argument, format) = (source.argument, source.format)
    let readsStandardInput = argument.isStandardInput && format.readsStreams
    guard !readsStandardInput || !session.isTerminal(session.standardInput) else {
      throw VMCheckpointError(
        .invalidArgument,
        "standard input is a terminal, and SOURCE is -",
        hint: "redirect or pipe the guest's RAM, or name a file"
      )
    }
    return try format.input(
      SourceReference(
        place: argument.isStandardInput
          ? .standardInput(fileDescriptor: session.standardInput) : .path(argument.path),
        inspectStream: argument.formatName == nil ? FormatRegistry.refuseStream : nil,
        leavesStopped: leaveStopped,
        maximumPauseSeconds: maximumPauseSeconds,
        guardCommand: ["/proc/self/exe", GuardCommand.name],
        base: base,
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
      guard let ramSize else {
        return region.isEmpty ? .contiguous : .regions(try RegionArgument.layout(region))
      }
      guard region.isEmpty else {
        throw VMCheckpointError(
          .invalidArgument,
          "--ram-size and --region exclude each other",
          hint: "the regions say how much RAM there is"
        )
      }
      return .regions(try RegionArgument.layout([RegionArgument(gpa: 0, byteCount: ramSize)]))
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

  /// Reads the overlays.
  func readOverlays(
    _ source: Source,
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
      guard !source.argument.isStandardInput else {
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

  /// Files that are read beside SOURCE.
  var otherPaths: [String] {
    [overlays, vmstate].compactMap { $0 }.filter { $0 != "-" && $0 != Self.noOverlays } + diff
  }
}
