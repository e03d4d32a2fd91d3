public import ArgumentParser
import Glibc
import VMCheckpoint

/// The `vmckpt` command.
public struct VMCheckpointTool: ParsableCommand {
  /// The help of the whole tool, and its commands.
  public static let configuration = CommandConfiguration(
    commandName: "vmckpt",
    abstract: "Keep checkpoints of virtual machines in one SQLite file.",
    usage: "vmckpt <command> [<options>]",
    discussion: """
      A store holds snapshots of guests' RAM, the overlay pages that covered it, and \
      device state. Equal pages are stored once, whichever snapshot or guest they came \
      from. The plain sqlite3 shell can query a store.

      A REF names a snapshot: its name, 'latest', NAME~N (the Nth parent of NAME), or the \
      first characters of its UUID.

      EXAMPLES:
        vmckpt save guest.ram --vm web --overlays overlays.json
        vmckpt list
        vmckpt diff latest~1 latest
        vmckpt restore latest -o restored.ram

      ENVIRONMENT:
        VMCKPT_STORE         The store, where --store is not given. Without either it
                             is ./vmckpt.db.
        VMCKPT_EXTENSION     The SQLite extension that 'vmckpt sql' loads.
        VMCKPT_KERNEL_CACHE  'off': do not remember where guests' kernels have their
                             symbols.

      JSON:
        With --json a command writes one JSON document to standard output, or, when
        it fails, one JSON object with the key "error" to standard error.

      EXIT CODES:
         0  Done.
        64  The command line makes no sense.
        65  Input that does not follow its format, or damage in the store.
        66  No such file, store or snapshot.
        69  A service that is needed is missing.
        71  No memory, thread or file descriptor is left.
        73  The output exists or cannot be created.
        74  Reading or writing failed, on a full disk for example.
        75  Somebody else holds the store; try again later.
        77  The operating system refuses access.
        An interrupted command cleans up and then ends by the signal, which shells
        report as 130 (SIGINT) or 143 (SIGTERM). A second signal ends it at once.
      """,
    version: "vmckpt \(VMCheckpointVersion.current)",
    groupedSubcommands: [
      CommandGroup(
        name: "Save and restore",
        subcommands: [
          SaveCommand.self, RestoreCommand.self, ConvertCommand.self, OverlaysCommand.self,
          DeviceStateCommand.self, FormatsCommand.self,
        ]
      ),
      CommandGroup(
        name: "Run VMs from a store",
        subcommands: [
          ResumeCommand.self, MountCommand.self, UnmountCommand.self, ServeCommand.self,
        ]
      ),
      CommandGroup(
        name: "Look into a store",
        subcommands: [
          ListCommand.self, ShowCommand.self, DiffCommand.self, StatsCommand.self,
          StatusCommand.self, MapCommand.self, QueryCommand.self, SQLCommand.self,
        ]
      ),
      CommandGroup(
        name: "Look into a guest",
        subcommands: [PsCommand.self, DmesgCommand.self]
      ),
      CommandGroup(
        name: "Share snapshots between hosts and stores",
        subcommands: [PushCommand.self, PullCommand.self, CopyCommand.self, RemoteCommand.self]
      ),
      CommandGroup(
        name: "Look after a store",
        subcommands: [
          TagCommand.self, DeleteCommand.self, PruneCommand.self, GcCommand.self,
          OptimizeCommand.self, VerifyCommand.self, BackupCommand.self, LeaseCommand.self,
        ]
      ),
    ]
  )

  /// Made by ArgumentParser.
  public init() {}

  /// Runs the command that this process was started with, and ends the process.
  public static func main() -> Never {
    CrashSecrecy.enforce()
    if GuardCommand.runIfAsked(ProcessArguments.all) { Glibc.exit(0) }
    if KeeperCommand.runIfAsked(ProcessArguments.all) { Glibc.exit(0) }
    StandardDescriptors.reserve()
    if let code = DisksCommand.runIfAsked(ProcessArguments.all) { Glibc.exit(code) }
    ConnectionKeeper.keepQueues()
    let session = CommandSession.ofThisProcess()
    CommandRunner.run(session).endProcess()
  }
}
