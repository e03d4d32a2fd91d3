import ArgumentParser
import VMCheckpoint
import VMCheckpointFormats

/// `vmckpt mount`.
struct MountCommand: VerbCommand {
  static let configuration = CommandConfiguration(
    commandName: "mount",
    abstract: "Show a store's snapshots as files, whose bytes are read when they are needed.",
    usage: "vmckpt mount [<ref>...] <directory> [<options>]",
    discussion: """
      Each snapshot is a folder in DIRECTORY/by-name, with the guest's RAM as it was seen (ram) \
      and bare (ram.bare), overlays.json, snapshot.json, device-states, core.elf and \
      memory.lime; of a QEMU guest also run.sh, which runs it from there without a copy. \
      by-vm/VM has links, also to its latest snapshot. New snapshots appear, deleted ones go; with \
      REFs there are only those.

      The command returns when the mount answers, and another process serves it, until \
      'vmckpt unmount'. When that process is killed, another one goes on in its place, and who \
      reads only waits a moment. A page that is damaged in the store is a read error, never zeros.

      Which pages a VM touches in its first seconds is recorded once, as the snapshot's working \
      set, when RAM is opened for writing, as QEMU does; the next VM finds these pages in memory.

      Every write is refused. Files have mode 0600, and RAM may be opened for writing, as QEMU \
      does. A snapshot with an open file of RAM has a lease, and is not deleted meanwhile.

      Users who are not root need fusermount3 (Debian's package fuse3).

      EXAMPLES:
        vmckpt mount /mnt/vms
        cmp /mnt/vms/by-name/web/7/ram guest.ram
        /mnt/vms/by-vm/web/latest/run.sh -display none
        vmckpt unmount /mnt/vms
      """
  )

  @Argument(
    help: ArgumentHelp(
      "Snapshots, and last the directory to mount on.",
      valueName: "ref> ... <directory"
    ),
    completion: .directory
  )
  var arguments: [String]

  @Flag(name: .long, help: "Serve in this process, and print at the end what was done.")
  var foreground = false

  @Flag(name: .long, help: "Let other users, and their VMs, use the mount.")
  var allowOther = false

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Record for so long which pages the first VM of each snapshot touches, in place of its working set; 0: "
        + "never. Without this option: 5, when there is no working set.",
      valueName: "seconds"
    ),
    transform: WorkingSetSeconds.parse
  )
  var recordWorkingSet: Double?

  @OptionGroup var common: CommonOptions

  var accomplishment: String? { "the store is mounted" }

  func validate() throws {
    guard let directory = arguments.last, !directory.isEmpty else {
      throw ValidationError("Which directory? Give its path.")
    }
  }

  func perform(in session: CommandSession) throws(VMCheckpointError) -> MountOutput {
    var request = MountRequest(
      directory: arguments.last ?? "",
      references: try SnapshotReference.list(arguments.dropLast())
    )
    request.allowsOthers = allowOther
    request.staysInForeground = foreground
    request.recordingSeconds = recordWorkingSet
    request.keeperCommand = ["/proc/self/exe", KeeperCommand.name] + session.arguments
    request.keeperDescriptor = session.environment[ServeKeeper.variable].flatMap { Int32($0) }
    request.forms = FormatRegistry.mountForms
    request.describe = { Array(JSONText.document(ShowOutput($0)).utf8) }
    let errorOutput = OutputDescriptor(descriptor: session.standardError)
    if !common.json {
      request.onReady = { ready in
        try? errorOutput.write(
          "vmckpt: serving \(HumanReadable.count(ready.snapshotCount, "snapshot")) at "
            + printable(ready.directory)
            + (ready.isSuccessor ? ", in place of a server that was killed" : "") + "\n"
        )
      }
    }
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common)
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try StoreMount.mount(request, storePath: storePath, control: control)
    }
    return MountOutput(result, warnings: warnings)
  }
}
