import ArgumentParser
import VMCheckpoint
import VMCheckpointFormats

/// What a guest is written to: what `restore` and `convert` have in common.
package struct TargetOptions: ParsableArguments {
  @Option(
    name: [.customShort("o"), .long],
    help: ArgumentHelp("The file or directory to write, or '-'.", valueName: "path"),
    completion: .file()
  )
  var output: String

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Write the overlays.json that goes with the written RAM.",
      valueName: "file"
    ),
    completion: .file(extensions: ["json"])
  )
  var overlaysOut: String?

  @OptionGroup var retarget: RetargetOptions

  @Option(
    name: .long,
    help: ArgumentHelp(
      "With '--format libvirt-save', the domain's XML in place of the one that it was saved with.",
      valueName: "file"
    ),
    completion: .file(extensions: ["xml"])
  )
  var xml: String?

  @Flag(name: .long, help: "Replace files that exist.")
  var force = false

  /// Made by ArgumentParser.
  package init() {}

  /// Whether RAM goes to standard output.
  var isStandardOutput: Bool { output == "-" }

  /// What the arguments ask for. Reads the XML.
  ///
  /// - Parameter treatment: What RAM shows where overlays were; `nil`: what is usual for the format.
  func makeTarget(
    _ format: FormatArgument,
    treatment: OverlayTreatment?,
    in session: CommandSession
  ) throws(VMCheckpointError) -> RestoreTarget {
    let showsOverlays = format.form.form.showsOverlays
    guard showsOverlays || (retarget.tscFrequency == nil && retarget.cpuVendor == nil) else {
      throw VMCheckpointError(
        .invalidArgument,
        "--tsc-frequency and --cpu-vendor do not go with --format \(format)",
        hint: "leave them out: what was saved is written as it was"
      )
    }
    return RestoreTarget(
      output: try makeOutput(in: session),
      format: try makeFormat(format),
      overlays: treatment ?? (showsOverlays ? .apply : .omit),
      overlaysOutputPath: try makeOverlaysOutputPath(),
      overwrites: force,
      tscFrequencyHz: retarget.tscFrequency,
      cpuVendor: retarget.cpuVendor
    )
  }

  private func makeFormat(_ format: FormatArgument) throws(VMCheckpointError) -> RestoreFormat {
    guard let xml else { return format.form }
    guard format.form == .libvirtSave else {
      throw VMCheckpointError(
        .invalidArgument,
        "--xml goes with --format libvirt-save",
        hint: "leave it out"
      )
    }
    let file = InputFile(
      name: "XML file \(quotedName(xml))",
      maximumByteCount: Self.maximumXMLByteCount
    )
    return .libvirtSave(replacingXML: try file.read(path: xml))
  }

  /// A domain's XML has some KiB.
  private static let maximumXMLByteCount = 16 << 20

  private func makeOutput(in session: CommandSession) throws(VMCheckpointError) -> RAMOutput {
    guard !output.isEmpty else {
      throw VMCheckpointError(.invalidArgument, "--output is empty", hint: "give it a path, or -")
    }
    guard isStandardOutput else { return .file(path: output) }
    guard !force || overlaysOut != nil else {
      throw VMCheckpointError(
        .invalidArgument,
        "--force has no meaning with -o - and no --overlays-out",
        hint: "leave it out"
      )
    }
    guard !session.isTerminal(session.standardOutput) else {
      throw VMCheckpointError(
        .invalidArgument,
        "standard output is a terminal, which RAM would garble",
        hint: "redirect it, or name a file"
      )
    }
    return .stream(fileDescriptor: session.standardOutput)
  }

  private func makeOverlaysOutputPath() throws(VMCheckpointError) -> String? {
    guard let overlaysOut else { return nil }
    guard !overlaysOut.isEmpty, overlaysOut != "-" else {
      throw VMCheckpointError(
        .invalidArgument,
        "--overlays-out needs a file's path",
        hint: "'vmckpt show --json' prints a snapshot's overlays"
      )
    }
    guard overlaysOut != output else {
      throw VMCheckpointError(
        .invalidArgument,
        "--output and --overlays-out are the same file",
        hint: "name two"
      )
    }
    return overlaysOut
  }
}
