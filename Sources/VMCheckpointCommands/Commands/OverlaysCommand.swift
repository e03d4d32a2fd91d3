import ArgumentParser
import VMCheckpoint
import VMCheckpointFormats

/// `vmckpt overlays`.
struct OverlaysCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "overlays",
    abstract: "Convert descriptions of overlays between formats.",
    usage: "vmckpt overlays <file> --from <format> --to <format> [<options>]",
    discussion: """
      Reads FILE, or standard input for '-', and prints the same overlays in another \
      format. No store is used.

      FORMATS:
        propolis-ron   Propolis's guest-hyperv-interface v1, as migration sends it.
        propolis-json  The same, as a snapshot of propolis-standalone has it.
        msrs           {"msrs": {"0x40000000": N, …}, "tsc_frequency_hz": N}, with
                       the MSRs 0x40000000, 0x40000001 and 0x40000021.
        overlays-json  An overlays.json, as save takes and restore gives it.

      Registers do not say all of the pages that they place. With --ram, the RAM that was captured \
      with them does: the pages that the guest writes, the offset of a reference TSC page, and which \
      pages were written over RAM, as KVM does, so that what lay beneath is unknown.

      What Propolis refuses to import is refused, whatever the formats: an enabled hypercall \
      page with a guest OS ID of 0; one outside RAM, with --ram-size; a reference TSC where the \
      VM has none or none where it has one, with --reference-tsc.

      EXAMPLES:
        vmckpt overlays payload.ron --from propolis-ron --to overlays-json
        vmckpt overlays o.json --from overlays-json --to propolis-json --ram-size 4G
        vmckpt overlays m.json --from msrs --to overlays-json --tsc-frequency 2.4G
        vmckpt overlays m.json --from msrs --to overlays-json --ram guest.ram > o.json
        vmckpt show latest --json | jq .overlays |
          vmckpt overlays - --from overlays-json --to msrs
      """
  )

  @Argument(
    help: ArgumentHelp("What to convert, or '-'.", valueName: "file"),
    completion: .file()
  )
  var file: String

  @Option(name: .long, help: ArgumentHelp("What it is.", valueName: "format"))
  var from: OverlayFormat

  @Option(name: .long, help: ArgumentHelp("What it becomes.", valueName: "format"))
  var to: OverlayFormat

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Check PFNs against this much RAM, as it lies in Propolis: up to 3G from 0, the rest from "
        + "4G on.",
      valueName: "size"
    ),
    transform: ByteSize.parse
  )
  var ramSize: UInt64?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Whether the VM that is to take the overlays has a reference TSC.",
      valueName: "presence"
    )
  )
  var referenceTsc: ReferenceTSCPresence?

  @Option(
    name: .long,
    help: ArgumentHelp("The guest OS ID, instead of what FILE says.", valueName: "id"),
    transform: ByteSize.parse
  )
  var guestOsId: UInt64?

  @Option(
    name: .long,
    help: ArgumentHelp("The TSC's frequency, instead of what FILE says.", valueName: "hz"),
    transform: Frequency.parse
  )
  var tscFrequency: UInt64?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Whose code the hypercall page holds, instead of what FILE says.",
      valueName: "variant"
    )
  )
  var hypercallVariant: HypercallVariant?

  @Option(
    name: .long,
    help: ArgumentHelp("The raw RAM that was captured with the registers.", valueName: "file"),
    completion: .file()
  )
  var ram: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "A memory region of that file, gpa=N,size=N[,offset=N]; repeated for each.",
      valueName: "region"
    ),
    transform: RegionArgument.parse
  )
  var region: [RegionArgument] = []

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard ram != nil || region.isEmpty else {
      throw ValidationError("--region describes the file that --ram names: give both")
    }
  }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> OverlaysOutput {
    var conversion = OverlayConversion(from: from, to: to)
    conversion.layout = try makeLayout()
    conversion.hasReferenceTSC = referenceTsc.map { $0 == .present }
    conversion.guestOSID = guestOsId
    conversion.tscFrequencyHz = tscFrequency
    conversion.hypercallVariant = hypercallVariant
    if let ram {
      conversion.ram = OverlayConversion.RAMFile(
        path: ram,
        layout: region.isEmpty ? nil : try RegionArgument.layout(region)
      )
    }
    let input = InputFile(
      name: file == "-" ? "standard input" : quotedName(file),
      maximumByteCount: OverlayDocument.maximumByteCount
    )
    let document =
      try file == "-"
      ? input.read(descriptor: session.standardInput) : input.read(path: file)
    do throws(VMCheckpointError) {
      return OverlaysOutput(try conversion.convert(document), from: from, to: to)
    } catch {
      throw error.code == .invalidData
        ? VMCheckpointError(error.code, "\(input.name): \(error.message)", hint: error.hint)
        : error
    }
  }

  private func makeLayout() throws(VMCheckpointError) -> RAMLayout? {
    guard let ramSize else { return nil }
    do throws(VMCheckpointError) {
      return try PropolisLayout.layout(ramByteCount: ramSize)
    } catch {
      throw VMCheckpointError(.invalidArgument, "--ram-size: \(error.message)", hint: error.hint)
    }
  }
}

/// Whether a VM has a reference TSC.
enum ReferenceTSCPresence: String, CaseIterable, ExpressibleByArgument {
  case present
  case absent
}
