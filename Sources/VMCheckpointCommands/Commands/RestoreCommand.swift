package import ArgumentParser
package import VMCheckpoint

/// `vmckpt restore`.
package struct RestoreCommand: VerbCommand {
  package static let configuration = CommandConfiguration(
    commandName: "restore",
    abstract: "Write a snapshot's RAM to a file, its overlays rebuilt.",
    usage: "vmckpt restore <ref> -o <path> [<options>]",
    discussion: """
      The file is sparse, has mode 0600, and appears under its name only when it is \
      complete. RAM is loaded first; then the active overlay at each page is put over it, \
      or none with '--overlays omit'. --overlays-out describes the RAM that was written, \
      so that both together can be saved again as the same snapshot.

      '--format elf' writes an ELF core with the notes that crash, drgn, volatility3 and \
      makedumpfile need, as far as the snapshot has what they are made of.

      '--format propolis' writes the snapshot of propolis-standalone that was saved, RAM bare, \
      byte for byte.

      With '-o -' RAM goes to standard output, and the result, text or JSON, to standard \
      error.

      '--format qemu-stream' writes a migration stream with RAM and device state, of a \
      guest that was saved from QEMU, which takes it with '-incoming "exec:vmckpt restore \
      REF --format qemu-stream -o -"'.

      '--format qemu' makes a directory with RAM, device state and run.sh, which runs the \
      VM in QEMU, as often as you like.

      EXAMPLES:
        vmckpt restore latest -o guest.ram
        vmckpt restore web/7 -o bare.ram --overlays omit --overlays-out bare.json
        vmckpt restore latest -o guest.ram --tsc-frequency 2.4G --cpu-vendor amd
        vmckpt restore web/live --format qemu -o web && web/run.sh
        vmckpt restore latest -o web.elf --format elf
        vmckpt restore latest -o web.tar --format propolis
        vmckpt restore latest~1 -o - | sha256sum
      """
  )

  @Argument(help: ArgumentHelp("The snapshot.", valueName: "ref"))
  var reference: String

  @Option(
    name: [.customShort("o"), .long],
    help: ArgumentHelp("The RAM file to write, or '-'.", valueName: "path"),
    completion: .file()
  )
  var output: String

  @Option(
    name: .long,
    help: ArgumentHelp(
      "What the RAM shows where overlays stood. (default: apply; omit for propolis)",
      valueName: "treatment"
    )
  )
  var overlays: OverlayTreatment?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Write the overlays.json that goes with the restored RAM.",
      valueName: "file"
    ),
    completion: .file(extensions: ["json"])
  )
  var overlaysOut: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The TSC's frequency where the guest will run, for the reference TSC page; k, M and G "
        + "are powers of 1000.",
      valueName: "hz"
    ),
    transform: Frequency.parse
  )
  var tscFrequency: UInt64?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The CPU's vendor where the guest will run, for the hypercall page.",
      valueName: "vendor"
    )
  )
  var cpuVendor: CPUVendor?

  @Flag(name: .long, help: "Replace files that exist.")
  var force = false

  @Flag(name: .long, help: "Recheck the SHA-256 of every page.")
  var verify = false

  @Option(name: .long, help: "The format of what is written.")
  var format = FormatArgument.raw

  @OptionGroup var threadOptions: ThreadOptions
  @OptionGroup var timingOptions: TimingOptions
  @OptionGroup package var common: CommonOptions

  /// Made by ArgumentParser.
  package init() {}

  package var standardOutputCarriesRAM: Bool { output == "-" }

  package var accomplishment: String? { "the snapshot is restored" }

  package func perform(in session: CommandSession) throws(VMCheckpointError) -> RestoreOutput {
    let request = try makeRequest(in: session)
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(
      session: session,
      common: common,
      threadCount: threadOptions.threads
    )
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.open(at: storePath, cancellation: control.cancellation).restore(
        request,
        control: control
      )
    }
    return RestoreOutput(
      result,
      overlaysPath: overlaysOut,
      warnings: warnings,
      showsStages: timingOptions.timing
    )
  }

  /// What the arguments ask for.
  package func makeRequest(in session: CommandSession) throws(VMCheckpointError) -> RestoreRequest {
    try checkFormat()
    return RestoreRequest(
      reference: try SnapshotReference(reference),
      output: try makeOutput(in: session),
      format: format.form,
      overlays: overlays ?? (format.form.form.showsOverlays ? .apply : .omit),
      overlaysOutputPath: try makeOverlaysOutputPath(),
      overwrites: force,
      tscFrequencyHz: tscFrequency,
      cpuVendor: cpuVendor,
      verifiesPages: verify
    )
  }

  /// The refusals of a format with bare RAM in the words of the command line.
  private func checkFormat() throws(VMCheckpointError) {
    guard !format.form.form.showsOverlays else { return }
    guard overlays != .apply else {
      throw VMCheckpointError(
        .invalidArgument,
        "--overlays apply does not go with --format \(format): its RAM is bare",
        hint: "leave it out: the VMM lays its overlays over RAM itself"
      )
    }
    guard tscFrequency == nil, cpuVendor == nil else {
      throw VMCheckpointError(
        .invalidArgument,
        "--tsc-frequency and --cpu-vendor do not go with --format \(format)",
        hint: "leave them out: what was saved is written as it was"
      )
    }
  }

  private func makeOutput(in session: CommandSession) throws(VMCheckpointError) -> RAMOutput {
    guard !output.isEmpty else {
      throw VMCheckpointError(.invalidArgument, "--output is empty", hint: "give it a path, or -")
    }
    guard output == "-" else { return .file(path: output) }
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
