package import ArgumentParser
package import VMCheckpoint
import VMCheckpointFormats

/// `vmckpt convert`.
package struct ConvertCommand: VerbCommand {
  package static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Write a guest's RAM in another format, through no store.",
    usage: "vmckpt convert <source> -o <path> --format <format> [<options>]",
    discussion: """
      SOURCE is read as 'save' reads it, and written as 'restore' writes a snapshot of it: \
      the same bytes, but no store is used. SOURCE is read once. The file is sparse, has \
      mode 0600, and appears under its name only when it is complete. 'vmckpt formats' lists \
      what is read and what is written.

      What of the guest the format cannot hold is named in a warning: device states, and the \
      description of overlays, which --overlays-out writes. Pages that SOURCE leaves out become \
      zeros, with a warning.

      Memory stays small, whatever the guest's size. RAM that cannot be written in the order in \
      which it comes, or whose size is known only at its end, goes through a temporary file: \
      without a name, mode 0600, beside the target; with '-o -' in $TMPDIR, or in /var/tmp.

      A VM that runs, as 'qemu:SOCKET', is stopped for as long as a save would stop it, and goes \
      on whatever happens.

      With '-o -' RAM goes to standard output, and the result, text or JSON, to standard error.

      EXAMPLES:
        vmckpt convert guest.vmcore -o guest.ram --format raw
        vmckpt convert lime:guest.lime -o guest.elf --format elf
        vmckpt convert qemu:/run/web.qmp -o web.elf --format elf
        vmckpt convert web.save -o moved.save --format libvirt-save --xml moved.xml
        ssh host sudo avml /dev/stdout | vmckpt convert avml:- -o web.elf --format elf
      """
  )

  @Option(
    name: .long,
    help: "The format of what is written."
  )
  var format: FormatArgument

  @Flag(name: .long, help: "Leave RAM bare: lay no overlays over it.")
  var bare = false

  @Option(
    name: .long,
    help: ArgumentHelp(
      "With 'firecracker:', none: the holes of SOURCE are zeros.",
      valueName: "base"
    )
  )
  var base: ZeroBase?

  @OptionGroup var targetOptions: TargetOptions
  @OptionGroup var sourceOptions: SourceOptions
  @OptionGroup var threadOptions: ThreadOptions
  @OptionGroup var timingOptions: TimingOptions
  @OptionGroup package var common: CommonOptions

  /// Made by ArgumentParser.
  package init() {}

  package var standardOutputCarriesRAM: Bool { targetOptions.isStandardOutput }

  package var accomplishment: String? { "the guest is converted" }

  package func perform(in session: CommandSession) throws(VMCheckpointError) -> ConvertOutput {
    let request = try makeRequest(in: session)
    // The store is not used, and must not be lost to --force.
    let storePath = try common.storePath(environment: session.environment)
    for path in [targetOptions.output, targetOptions.overlaysOut].compactMap({ $0 }) {
      try Store.requireNotStore(target: path, storePath: storePath)
    }
    let operation = LongOperation(
      session: session,
      common: common,
      threadCount: threadOptions.threads
    )
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try request.run(control: control)
    }
    return ConvertOutput(
      result,
      overlaysPath: targetOptions.overlaysOut,
      warnings: warnings,
      showsStages: timingOptions.timing
    )
  }

  /// What the arguments ask for. Reads the overlays and the XML.
  package func makeRequest(in session: CommandSession) throws(VMCheckpointError) -> ConvertRequest {
    let source = try sourceOptions.parse(hasBase: base != nil)
    let target = try targetOptions.makeTarget(
      format,
      treatment: bare ? .omit : nil,
      in: session
    )
    return ConvertRequest(
      input: try sourceOptions.makeInput(source, base: base == nil ? nil : .zeros, in: session),
      layout: source.layout,
      overlays: try sourceOptions.readOverlays(source, in: session),
      findsOverlays: sourceOptions.findsOverlays,
      target: target,
      otherInputPaths: sourceOptions.otherPaths + [targetOptions.xml].compactMap { $0 },
      temporaryDirectory: targetOptions.isStandardOutput ? temporaryDirectory(session) : nil
    )
  }

  private func temporaryDirectory(_ session: CommandSession) -> String? {
    session.environment["TMPDIR"].flatMap { $0.isEmpty ? nil : $0 }
  }
}

/// The only base of a diff that needs no store.
enum ZeroBase: String, CaseIterable, ExpressibleByArgument {
  case zeros = "none"
}
