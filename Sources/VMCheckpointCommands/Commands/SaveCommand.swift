package import ArgumentParser
package import VMCheckpoint

/// `vmckpt save`.
package struct SaveCommand: VerbCommand {
  package static let configuration = CommandConfiguration(
    commandName: "save",
    abstract: "Save a guest's RAM and overlays as a snapshot.",
    usage: "vmckpt save <source> [--name <name>] [--vm <vm>] [<options>]",
    discussion: """
      SOURCE is a file of the guest's RAM, or '-' for standard input. Its format is \
      recognised by its first bytes, or named, as in 'raw:PATH' for flat RAM; 'vmckpt formats' \
      lists all. The guest must be paused while it is read. The store is created when there \
      is none.

      'propolis:PATH' is a snapshot of propolis-standalone, with all its members. Its \
      regions come from it, and its overlays where it has them.

      'qemu:SOCKET' is a VM that QEMU runs, by the Unix socket of its QMP monitor. It is \
      stopped for a moment, and goes on. Its overlays come from its CPUs' registers, as those of \
      the next two do.

      'qemu-stream:PATH', or 'qemu-stream:-', is a QEMU migration stream, with RAM and \
      device state. QEMU sends it to 'exec:vmckpt save qemu-stream:-'.

      'libvirt-save:PATH', or 'libvirt-save:-', is what 'virsh save' writes.

      'libvirt:DOMAIN' is a domain that libvirt runs on this host, by its name or UUID. virsh \
      writes its memory beside the store for a moment, and it goes on.

      'cloud-hypervisor:DIR' is a snapshot of Cloud Hypervisor. Its regions come from it, and its \
      overlays from the virtual processors' registers.

      'firecracker:PATH' is a snapshot of Firecracker: a directory, or the memory file beside \
      its vmstate file. Of a diff, --base names the snapshot that it is based on. Each --diff is \
      laid over it in turn, and the vmstate is that of the last.

      'elf:PATH', or 'elf:-', is an ELF core, as 'virsh dump --memory-only' writes. Its regions \
      and notes come from it. From a pipe it must be named, and its loads come in order of \
      their addresses and in whole pages.

      'lime:PATH' is a capture of LiME, 'avml:PATH' one of AVML, 'kdump:PATH' a dump of \
      makedumpfile or of QEMU's 'dump-guest-memory -z'; '-' takes the place of PATH. Regions \
      come from them.

      'vmware:PATH' is RAM of a VMware VM: PATH is the file .vmem, or the .vmss or .vmsn \
      beside it, which says where RAM is.

      A guest with a hole in its RAM needs its regions: by --qemu-machine, or by --region, \
      once for each. A region's offset is its place in the file; left out, it is where \
      the region before it ends. Sizes and addresses are decimal or 0x hexadecimal, with an \
      optional K, M, G or T (powers of 1024).

      EXAMPLES:
        vmckpt save guest.ram --vm web --name web/before-upgrade
        vmckpt save guest.ram --overlays overlays.json --tag kernel=6.1
        vmckpt save guest.ram --qemu-machine q35
        vmckpt save guest.ram --region gpa=0,size=3G --region gpa=0x100000000,size=1G
        vmckpt save propolis:web-1764000000000.tar
        vmckpt save web.elf --vm web
        vmckpt save cloud-hypervisor:snapshots/web --vm web
        vmckpt save firecracker:web.mem --diff web-1.mem --vmstate web-1.vmstate
        vmckpt save firecracker:web-2 --base web/1
        vmckpt save guest.ram --vm web --device-state vmstate=web.state,format=my-vmm
        vmckpt save qemu:/run/web.qmp --vm web
        vmckpt save libvirt:web --connect qemu:///system
        vmckpt save qemu-stream:guest.migration --vm web
        ssh host cat /dev/shm/guest.ram | vmckpt save - --vm web
      """
  )

  @Option(
    name: .long,
    help: "The snapshot's name. (default: the source's name and the time in UTC)"
  )
  var name: String?

  @Option(name: .long, help: "The virtual machine's name. (default: the source's name)")
  var vm: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The snapshot that this one descends from. (default: the newest of the same VM)",
      valueName: "ref"
    )
  )
  var parent: String?

  @Flag(name: .long, help: "Save without a parent.")
  var noParent = false

  @Option(
    name: .long,
    help: ArgumentHelp("A tag; may be repeated.", valueName: "key=value"),
    transform: TagArgument.parse
  )
  var tag: [TagArgument] = []

  @Option(
    name: .long,
    help: ArgumentHelp(
      "With 'firecracker:', the snapshot whose pages a diff's holes are; none: its holes are zeros.",
      valueName: "ref"
    )
  )
  var base: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Keep a file of the VMM's own with the RAM; may be repeated.",
      valueName: "name=file[,format=f][,version=n]"
    ),
    transform: DeviceStateArgument.parse
  )
  var deviceState: [DeviceStateArgument] = []

  @Option(
    name: .long,
    help: ArgumentHelp(
      "With 'qemu:', the longest that the VM may be stopped, in ms; else nothing is saved.",
      valueName: "ms"
    )
  )
  var maxPause: Int?

  @Option(name: .long, help: "How hard to compress pages that are new.")
  var compression = ChunkCompression.default

  @OptionGroup var sourceOptions: SourceOptions
  @OptionGroup package var threadOptions: ThreadOptions
  @OptionGroup var timingOptions: TimingOptions
  @OptionGroup package var common: CommonOptions

  /// Made by ArgumentParser.
  package init() {}

  package var accomplishment: String? { "the snapshot is saved" }

  package func perform(in session: CommandSession) throws(VMCheckpointError) -> SaveOutput {
    let storePath = try common.storePath(environment: session.environment)
    // Before its first bytes say that it is a database.
    let source = try SourceArgument(sourceOptions.source)
    if !source.namesDomain {
      try Store.requireNotStore(source: source.path, storePath: storePath)
    }
    let request = try makeRequest(in: session, storePath: storePath)
    let operation = LongOperation(
      session: session,
      common: common,
      threadCount: threadOptions.threads
    )
    let (result, warnings) = try operation.run { (control) throws(VMCheckpointError) in
      try Store.save(request, toStoreAt: storePath, control: control)
    }
    return SaveOutput(
      result,
      warnings: warnings,
      showsStages: timingOptions.timing
    )
  }
}
