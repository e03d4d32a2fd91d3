/// What `vmckpt --help` and `vmckpt <command> --help` print on a terminal of 80 columns: a change
/// of these texts is a change for users and meant.
enum HelpTexts {
  static let root = """
    OVERVIEW: Keep checkpoints of virtual machines in one SQLite file.

    A store holds snapshots of guests' RAM, the overlay pages that covered it, and
    device state. Equal pages are stored once, whichever snapshot or guest they
    came from. The plain sqlite3 shell can query a store.

    A REF names a snapshot: its name, 'latest', NAME~N (the Nth parent of NAME), or
    the first characters of its UUID.

    EXAMPLES:
      vmckpt save guest.ram --vm web --overlays overlays.json
      vmckpt list
      vmckpt diff latest~1 latest
      vmckpt restore latest -o restored.ram

    ENVIRONMENT:
      VMCKPT_STORE      The store, where --store is not given. Without either it is
                        ./vmckpt.db.
      VMCKPT_EXTENSION  The SQLite extension that 'vmckpt sql' loads.

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

    USAGE: vmckpt <command> [<options>]

    OPTIONS:
      --version               Show the version.
      -h, --help              Show help information.

    SAVE AND RESTORE SUBCOMMANDS:
      save                    Save a guest's RAM and overlays as a snapshot.
      restore                 Write a snapshot's RAM to a file, its overlays
                              rebuilt.
      overlays                Convert descriptions of overlays between formats.

    LOOK INTO A STORE SUBCOMMANDS:
      list                    List snapshots in the order of their saving.
      show                    Show everything about a snapshot but its RAM.
      diff                    Compare two snapshots: pages, overlays, device state.
      stats                   Show what a store holds and what it saves.
      map                     Show a guest's RAM, or what changed in it, as a
                              picture.
      query                   Ask a store a question out of a library of queries.
      sql                     Open the store in the sqlite3 shell, read-only.

    LOOK AFTER A STORE SUBCOMMANDS:
      tag                     Set and remove a snapshot's tags.
      delete                  Delete snapshots and free what only they used.
      gc                      Free what no snapshot uses and return space to the
                              file system.
      optimize                Compress harder, order pages for restores, and shrink
                              the file.
      verify                  Check stored data, and name what is damaged.

      See 'vmckpt help <subcommand>' for detailed help.
    """

  static let save = """
    OVERVIEW: Save a guest's RAM and overlays as a snapshot.

    SOURCE is a flat file of the guest's RAM, or '-' for standard input. 'raw:PATH'
    names the format as well. The guest must be paused while it is read. The store
    is created when there is none.

    'propolis:PATH' is a snapshot of propolis-standalone, with all its members. It
    tells its regions itself, and its overlays where it has them.

    'qemu:SOCKET' is a VM that QEMU runs, by the Unix socket of its QMP monitor. It
    is stopped for a moment, and goes on.

    'qemu-stream:PATH', or 'qemu-stream:-', is a QEMU migration stream, with RAM
    and device state. QEMU sends it to 'exec:vmckpt save qemu-stream:-'.

    A guest with a hole in its RAM needs its regions: by --qemu-machine, or by
    --region, once for each. A region's offset is its place in the file; left out,
    it is where the region before it ends. Sizes and addresses are decimal or 0x
    hexadecimal, with an optional K, M, G or T (powers of 1024).

    EXAMPLES:
      vmckpt save guest.ram --vm web --name web/before-upgrade
      vmckpt save guest.ram --overlays overlays.json --tag kernel=6.1
      vmckpt save guest.ram --qemu-machine q35
      vmckpt save guest.ram --region gpa=0,size=3G --region gpa=0x100000000,size=1G
      vmckpt save propolis:web-1764000000000.tar
      vmckpt save qemu:/run/web.qmp --vm web
      vmckpt save qemu-stream:guest.migration --vm web
      ssh host cat /dev/shm/guest.ram | vmckpt save - --vm web

    USAGE: vmckpt save <source> [--name <name>] [--vm <vm>] [<options>]

    ARGUMENTS:
      <source>                A RAM file, 'FORMAT:PATH', or '-'.

    OPTIONS:
      --name <name>           The snapshot's name. (default: the source's name and
                              the time in UTC)
      --vm <vm>               The virtual machine's name. (default: the source's
                              name)
      --overlays <file>       The overlays that covered RAM, an overlays.json, or
                              '-'.
      --parent <ref>          The snapshot that this one descends from. (default:
                              the newest of the same VM)
      --no-parent             Save without a parent.
      --tag <key=value>       A tag; may be repeated.
      --region <region>       A memory region, gpa=N,size=N[,offset=N][,name=NAME];
                              repeated for each.
      --qemu-machine <type>   RAM lies as in QEMU's machine of this type. (values:
                              q35, pc)
      --ram-size <size>       With --qemu-machine, the guest's RAM; needed with '-'.
      --leave-stopped         With 'qemu:', do not let the VM go on when it is
                              saved.
      --compression <compression>
                              How hard to compress pages that are new. (values:
                              none, fast, default, high; default: default)
      --threads <n>           Worker threads, at most 16. (default: one a core)
      --timing                Show how long each stage of the work took.
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """

  static let restore = """
    OVERVIEW: Write a snapshot's RAM to a file, its overlays rebuilt.

    The file is sparse, has mode 0600, and appears under its name only when it is
    complete. RAM is loaded first; then the active overlay at each page is put over
    it, or none with '--overlays omit'. --overlays-out describes the RAM that was
    written, so that both together can be saved again as the same snapshot.

    '--format propolis' writes the snapshot of propolis-standalone that was saved,
    RAM bare, byte for byte.

    With '-o -' RAM goes to standard output, and the result, text or JSON, to
    standard error.

    '--format qemu-stream' writes a migration stream with RAM and device state, of
    a guest that was saved from QEMU, which takes it with '-incoming "exec:vmckpt
    restore REF --format qemu-stream -o -"'.

    '--format qemu' makes a directory with RAM, device state and run.sh, which runs
    the VM in QEMU, as often as you like.

    EXAMPLES:
      vmckpt restore latest -o guest.ram
      vmckpt restore web/7 -o bare.ram --overlays omit --overlays-out bare.json
      vmckpt restore latest -o guest.ram --tsc-frequency 2.4G --cpu-vendor amd
      vmckpt restore web/live --format qemu -o web && web/run.sh
      vmckpt restore latest -o web.tar --format propolis
      vmckpt restore latest~1 -o - | sha256sum

    USAGE: vmckpt restore <ref> -o <path> [<options>]

    ARGUMENTS:
      <ref>                   The snapshot.

    OPTIONS:
      -o, --output <path>     The RAM file to write, or '-'.
      --overlays <treatment>  What the RAM shows where overlays stood. (default:
                              apply; omit for propolis) (values: apply, omit)
      --overlays-out <file>   Write the overlays.json that goes with the restored
                              RAM.
      --tsc-frequency <hz>    The TSC's frequency where the guest will run, for the
                              reference TSC page; k, M and G are powers of 1000.
      --cpu-vendor <vendor>   The CPU's vendor where the guest will run, for the
                              hypercall page. (values: intel, amd)
      --force                 Replace files that exist.
      --verify                Recheck the SHA-256 of every page.
      --format <format>       The format of what is written. (values: raw,
                              propolis, qemu-stream, qemu; default: raw)
      --threads <n>           Worker threads, at most 16. (default: one a core)
      --timing                Show how long each stage of the work took.
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """

  static let overlays = """
    OVERVIEW: Convert descriptions of overlays between formats.

    Reads FILE, or standard input for '-', and prints the same overlays in another
    format. No store is used.

    FORMATS:
      propolis-ron   Propolis's guest-hyperv-interface v1, as migration sends it.
      propolis-json  The same, as a snapshot of propolis-standalone has it.
      msrs           {"msrs": {"0x40000000": N, …}, "tsc_frequency_hz": N}, with
                     the MSRs 0x40000000, 0x40000001 and 0x40000021.
      overlays-json  An overlays.json, as save takes and restore gives it.

    What Propolis refuses to import is refused, whatever the formats: an enabled
    hypercall page with a guest OS ID of 0; one outside RAM, with --ram-size; a
    reference TSC where the VM has none or none where it has one, with
    --reference-tsc.

    EXAMPLES:
      vmckpt overlays payload.ron --from propolis-ron --to overlays-json
      vmckpt overlays o.json --from overlays-json --to propolis-json --ram-size 4G
      vmckpt overlays m.json --from msrs --to overlays-json --tsc-frequency 2.4G
      vmckpt show latest --json | jq .overlays |
        vmckpt overlays - --from overlays-json --to msrs

    USAGE: vmckpt overlays <file> --from <format> --to <format> [<options>]

    ARGUMENTS:
      <file>                  What to convert, or '-'.

    OPTIONS:
      --from <format>         What it is. (values: propolis-ron, propolis-json,
                              msrs, overlays-json)
      --to <format>           What it becomes. (values: propolis-ron,
                              propolis-json, msrs, overlays-json)
      --ram-size <size>       Check PFNs against this much RAM, as it lies in
                              Propolis: up to 3G from 0, the rest from 4G on.
      --reference-tsc <presence>
                              Whether the VM that is to take the overlays has a
                              reference TSC. (values: present, absent)
      --guest-os-id <id>      The guest OS ID, instead of what FILE says.
      --tsc-frequency <hz>    The TSC's frequency, instead of what FILE says.
      --hypercall-variant <variant>
                              Whose code the hypercall page holds, instead of what
                              FILE says. (values: return-not-supported, vmcall,
                              vmmcall, xen-vmcall, xen-vmmcall, openvmm)
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """

  static let list = """
    OVERVIEW: List snapshots in the order of their saving.

    NONZERO is what a snapshot has to store of its RAM; NEW is how much of it no
    snapshot had before, and STORED what that takes, compressed.

    EXAMPLES:
      vmckpt list --vm web --tag kernel=6.1
      vmckpt list --json | jq -r '.snapshots[].name'

    USAGE: vmckpt list [--vm <vm>] [--tag <key=value>]... [<options>]

    OPTIONS:
      --vm <vm>               Only snapshots of this virtual machine.
      --tag <key=value>       Only snapshots with this tag; may be repeated.
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """

  static let show = """
    OVERVIEW: Show everything about a snapshot but its RAM.

    The member 'overlays' of the JSON is an overlays.json for the snapshot's bare
    RAM, as 'vmckpt restore --overlays omit' writes it.

    EXAMPLES:
      vmckpt show latest
      vmckpt show web/before-upgrade --json | jq .overlays > overlays.json

    USAGE: vmckpt show <ref> [<options>]

    ARGUMENTS:
      <ref>                   The snapshot.

    OPTIONS:
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """

  static let diff = """
    OVERVIEW: Compare two snapshots: pages, overlays, device state.

    Tells what is different in B as against A: pages added (zero in A), zeroed and
    changed, as ranges of PFNs. Reads no page data. The exit code is 0 whether or
    not they differ; the JSON's 'identical' tells.

    EXAMPLES:
      vmckpt diff latest~1 latest
      vmckpt diff before after --limit all
      vmckpt diff before after --json | jq .changed.page_count

    USAGE: vmckpt diff <a> <b> [--limit <n>] [<options>]

    ARGUMENTS:
      <a>                     The first snapshot.
      <b>                     The second snapshot.

    OPTIONS:
      --limit <n>             List at most this many ranges of each class, or
                              'all'. (default: 20; all with --json)
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """

  static let stats = """
    OVERVIEW: Show what a store holds and what it saves.

    EXAMPLES:
      vmckpt stats
      vmckpt stats --json | jq .free_bytes

    USAGE: vmckpt stats [<options>]

    OPTIONS:
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """

  static let tag = """
    OVERVIEW: Set and remove a snapshot's tags.

    EXAMPLES:
      vmckpt tag latest keep=yes kernel=6.1
      vmckpt tag web/before-upgrade --remove keep

    USAGE: vmckpt tag <ref> [<key=value>]... [--remove <key>]... [<options>]

    ARGUMENTS:
      <ref>                   The snapshot.
      <key=value>             The tags to set.

    OPTIONS:
      --remove <key>          A tag to remove; may be repeated.
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """

  static let delete = """
    OVERVIEW: Delete snapshots and free what only they used.

    All of the named snapshots are deleted, or, when one does not exist, none.
    Other snapshots keep all of their pages, children of a deleted one too. Freed
    pages are overwritten in the store: a guest's RAM holds secrets.

    EXAMPLES:
      vmckpt delete web/before-upgrade
      vmckpt delete web/1 web/2 latest~3

    USAGE: vmckpt delete <ref>... [<options>]

    ARGUMENTS:
      <ref>                   The snapshots.

    OPTIONS:
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """

  static let gc = """
    OVERVIEW: Free what no snapshot uses and return space to the file system.

    Removes what interrupted saves left behind and chunks that no snapshot names,
    packs anew chunks that are mostly dead, and shrinks the store's file.

    EXAMPLES:
      vmckpt gc --dry-run
      vmckpt gc

    USAGE: vmckpt gc [--dry-run] [<options>]

    OPTIONS:
      --dry-run               Only tell what would be freed.
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """

  static let optimize = """
    OVERVIEW: Compress harder, order pages for restores, and shrink the file.

    Compresses with LZ4-HC what no optimize has compressed before, with the pages
    of each VM's newest snapshot in the order in which a restore reads them. Pages
    that no snapshot names are left out. Takes up to a GiB of free space for a
    while.

    It can be interrupted at any time; what it has done stays done, and the next
    run goes on. Others may read meanwhile; saves wait for some seconds.

    EXAMPLES:
      vmckpt optimize
      nice vmckpt optimize --threads 1

    USAGE: vmckpt optimize [--threads <n>] [<options>]

    OPTIONS:
      --threads <n>           Worker threads, at most 16. (default: one a core)
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """

  static let verify = """
    OVERVIEW: Check stored data, and name what is damaged.

    Recomputes every checksum of the named snapshots, or of the whole store. Ends
    with exit code 65 when anything is damaged; the report, text or JSON, still
    goes to standard output, and there is no JSON error.

    EXAMPLES:
      vmckpt verify
      vmckpt verify latest web/before-upgrade

    USAGE: vmckpt verify [<ref>]... [<options>]

    ARGUMENTS:
      <ref>                   The snapshots. (default: the whole store)

    OPTIONS:
      --threads <n>           Worker threads, at most 16. (default: one a core)
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """

  static let query = """
    OVERVIEW: Ask a store a question out of a library of queries.

    Without a name, lists the queries with their parameters. Values are given in
    the parameters' order, or as 'parameter=value'; those in brackets may be left
    out. A snapshot is given as a REF.

    With --sql nothing is asked; what is printed can be pasted into the sqlite3
    shell, or piped into it, on the same store.

    EXAMPLES:
      vmckpt query
      vmckpt query changes web/1 web/2
      vmckpt query page-history pfn=0x4000 vm=web
      vmckpt query overlays --sql | sqlite3 -readonly -box vmckpt.db
      vmckpt query growth --json | jq '.rows[].total_stored_bytes'

    USAGE: vmckpt query [<name> [<value>]...] [--sql] [<options>]

    ARGUMENTS:
      <name>                  The query. (default: list all)
      <value>                 Its parameters.

    OPTIONS:
      --sql                   Print the SQL and the parameters, for the sqlite3
                              shell.
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """

  static let sql = """
    OVERVIEW: Open the store in the sqlite3 shell, read-only.

    Runs the installed sqlite3 on the store; without a query it reads standard
    input, or asks on a terminal. In SQL, ':snapshot' is the name of the REF's
    snapshot, or of the newest. One argument alone is a REF if it can be one and
    does not begin with a dot, and otherwise a query.

    Output is boxed on a terminal and in lines elsewhere; with --json it is as
    'sqlite3 -json' prints it, which is nothing for no rows. Statements wait a
    minute for a locked store. ~/.sqliterc is not read, so that its settings do not
    change what scripts get; see --init. Files that the shell makes have mode 0600.

    vmckpt's SQLite extension is loaded where there is one: $VMCKPT_EXTENSION, else
    vmckpt.so or libvmckptext.so beside the vmckpt program or in ../lib/vmckpt from
    there.

    The exit code is that of sqlite3; before it runs, vmckpt's own: 69 where
    sqlite3 is not installed.

    EXAMPLES:
      vmckpt sql
      vmckpt sql 'SELECT * FROM snapshot_summary'
      vmckpt sql web/1 'SELECT * FROM overlay_stack WHERE snapshot = :snapshot'
      vmckpt sql --json 'SELECT name, tags FROM snapshot_summary'
      vmckpt sql --init ~/.sqliterc

    USAGE: vmckpt sql [<ref>] [<query>] [<options>]

    ARGUMENTS:
      <ref>                   The snapshot, or the query.
      <query>                 SQL, or one of the shell's dot-commands.

    OPTIONS:
      --init <file>           Read these SQL statements and dot-commands first.
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """

  static let map = """
    OVERVIEW: Show a guest's RAM, or what changed in it, as a picture.

    Of one snapshot, tells zero pages, pages that no other snapshot has (unique),
    and those whose content others have too: another VM, else the parent, else
    other snapshots of the VM. Of two, tells what is different in the second. Cells
    with overlays are marked. Reads no page data.

    Draws with characters, or writes a picture: the name ends in .svg, .png or
    .html. A cell shows the class that most of its pages have, zero pages aside,
    and unchanged ones where anything changed; in pictures the stronger, the more
    of its pages. Files have mode 0600.

    EXAMPLES:
      vmckpt map latest
      vmckpt map latest -o ram.html
      vmckpt map latest~1 latest -o changes.png
      vmckpt map latest --json --cells 64 | jq '.cells[].pages.zero'

    USAGE: vmckpt map <ref> [<other>] [-o <path>] [<options>]

    ARGUMENTS:
      <ref>                   The snapshot; of two, the earlier one.
      <other>                 The later snapshot.

    OPTIONS:
      -o, --output <path>     Write a picture: a name in .svg, .png or .html.
      --cells <n>             Show at most this many cells. (default: 2048; 16384
                              in a picture)
      --force                 Replace a file that exists.
      --store <path>          The store. (default: $VMCKPT_STORE, else ./vmckpt.db)
      --json                  Print one JSON document instead of text.
      --no-progress           Show no progress bar, even on a terminal.
      --version               Show the version.
      -h, --help              Show help information.

    """
}
