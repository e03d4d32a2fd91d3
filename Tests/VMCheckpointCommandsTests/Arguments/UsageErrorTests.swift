import Testing
import VMCheckpointCommands

/// Every way to misuse the command line ends with one line, exit code 64, and no store.
@Suite struct UsageErrorTests {
  @Test(arguments: [
    ([], "a command is missing; see 'vmckpt --help'"),
    (["lst"], "unknown command 'lst'; see 'vmckpt --help'"),
    (["--frobnicate"], "unknown option '--frobnicate'; see 'vmckpt --help'"),
    (["list", "extra"], "unexpected argument 'extra'; see 'vmckpt list --help'"),
    (
      ["list", "--jsn"],
      "unknown option '--jsn'. Did you mean '--json'?; see 'vmckpt list --help'"
    ),
    (["list", "--vm"], "missing value for '--vm <vm>'; see 'vmckpt list --help'"),
    (
      ["list", "--vm", "a b"],
      #"invalid VM name "a b"; a VM name has 1 to 255 letters, digits and ._-/:@+"#
    ),
    (
      ["list", "--tag", "k"],
      "the value 'k' is invalid for '--tag <key=value>': expected KEY=VALUE; "
        + "see 'vmckpt list --help'"
    ),
    (
      ["list", "--tag", "k=1", "--tag", "k=2"],
      #"tag "k" is given twice; a tag has one value"#
    ),
    (["list", "--store", ""], "--store is empty; give it a path"),
    (["remote"], "a subcommand of 'remote' is missing; see 'vmckpt remote --help'"),
    (["remote", "lst"], "unknown command 'remote lst'; see 'vmckpt remote --help'"),
    (
      ["remote", "delete"],
      "missing expected argument '<ref> ...'; see 'vmckpt remote delete --help'"
    ),
    (
      ["remote", "stats", "--frobnicate"],
      "unknown option '--frobnicate'; see 'vmckpt remote stats --help'"
    ),
    (["save"], "missing expected argument '<source>'; see 'vmckpt save --help'"),
    (["save", "a", "b"], "unexpected argument 'b'; see 'vmckpt save --help'"),
    (["save", ""], "SOURCE is empty; give a RAM file's path, or -"),
    (["save", "elf:"], "SOURCE has nothing behind 'elf:'; write elf:PATH, or elf:-"),
    (["save", "vmware:"], "SOURCE has nothing behind 'vmware:'; write vmware:PATH"),
    (["save", "qemu:"], "SOURCE has nothing behind 'qemu:'; write qemu:SOCKET"),
    (
      ["save", "raw:x", "--max-pause", "5"],
      "--max-pause goes with a SOURCE of qemu:; leave it out"
    ),
    (
      ["save", "qemu:x", "--max-pause", "0"],
      "--max-pause is a number of milliseconds, and at least 1; leave it out"
    ),
    (
      ["save", "qemu:x", "--max-pause", "5", "--leave-stopped"],
      "--max-pause and --leave-stopped exclude each other; leave it out"
    ),
    (["save", "libvirt:"], "SOURCE has nothing behind 'libvirt:'; write libvirt:DOMAIN"),
    (
      ["save", "qcow2:x"],
      "unknown format 'qcow2:' in SOURCE; known: raw:, elf:, lime:, avml:, kdump:, vmware:, "
        + "propolis:, qemu-stream:, qemu:, libvirt-save:, libvirt:, cloud-hypervisor:, "
        + "firecracker:; "
        + "write ./qcow2:x for a file of that name"
    ),
    (
      ["save", "x", "--name", "latest"],
      #""latest" stands for the newest snapshot and cannot be a name; choose another --name"#
    ),
    (
      ["save", "x", "--name", "a\u{7}"],
      #"""
      invalid snapshot name "a\u{7}"; a snapshot name has 1 to 255 letters, digits and ._-/:@+
      """#
    ),
    (
      ["save", "x", "--vm", ""],
      #"invalid VM name ""; a VM name has 1 to 255 letters, digits and ._-/:@+"#
    ),
    (
      ["save", "x", "--parent", "a~b"],
      #"""
      invalid snapshot reference "a~b"; after ~ comes the number of parents to go up, as in a~1
      """#
    ),
    (
      ["save", "x", "--parent", "a", "--no-parent"],
      "--parent and --no-parent exclude each other; give one"
    ),
    (
      ["save", "x", "--region", "gpa=0,size=4K", "--qemu-machine", "pc"],
      "--region and --qemu-machine exclude each other; give one"
    ),
    (
      ["save", "x", "--qemu-machine", "virt"],
      "the value 'virt' is invalid for '--qemu-machine <type>'. Please provide one of 'q35' "
        + "and 'pc'; see 'vmckpt save --help'"
    ),
    (
      ["save", "-", "--qemu-machine", "pc"],
      "--qemu-machine needs --ram-size when SOURCE is -; "
        + "the size of a stream is known only at its end"
    ),
    (
      ["save", "x", "--ram-size", "1G", "--region", "gpa=0,size=1G"],
      "--ram-size and --region exclude each other; the regions say how much RAM there is"
    ),
    (
      ["save", "x", "--qemu-machine", "pc", "--ram-size", "1"],
      "--ram-size: memory region gpa=0x0,size=0x1: size 0x1 is not a multiple of 4096"
    ),
    (
      ["save", "x", "--ram-size", "1Q"],
      "the value '1Q' is invalid for '--ram-size <size>': unknown unit 'Q'; use K, M, G or T, "
        + "or KiB, MiB, GiB or TiB (powers of 1024); see 'vmckpt save --help'"
    ),
    (
      ["save", "x", "--region", "gpa=0"],
      "the value 'gpa=0' is invalid for '--region <region>': 'size' is missing; "
        + "see 'vmckpt save --help'"
    ),
    (
      ["save", "-", "--overlays", "-"],
      "SOURCE and --overlays are both standard input; name a file for one of them"
    ),
    (
      ["save", "x", "--threads", "0"],
      "the value '0' is invalid for '--threads <n>': expected 1 to 1024; "
        + "see 'vmckpt save --help'"
    ),
    (
      ["verify", "--threads", "1025"],
      "the value '1025' is invalid for '--threads <n>': expected 1 to 1024; "
        + "see 'vmckpt verify --help'"
    ),
    (
      ["verify", "--threads", "-1"],
      "missing value for '--threads <n>'; see 'vmckpt verify --help'"
    ),
    (["restore", "a"], "missing expected argument '--output <path>'; see 'vmckpt restore --help'"),
    (["restore", "-o", "x"], "missing expected argument '<ref>'; see 'vmckpt restore --help'"),
    (["restore", "a", "-o", ""], "--output is empty; give it a path, or -"),
    (
      ["restore", "a", "-o", "-", "--force"],
      "--force has no meaning with -o - and no --overlays-out; leave it out"
    ),
    (
      ["restore", "a", "-o", "x", "--overlays-out", "x"],
      "--output and --overlays-out are the same file; name two"
    ),
    (
      ["restore", "a", "-o", "x", "--overlays-out", "-"],
      "--overlays-out needs a file's path; 'vmckpt show --json' prints a snapshot's overlays"
    ),
    (
      ["restore", "a", "-o", "x", "--tsc-frequency", "0"],
      "the value '0' is invalid for '--tsc-frequency <hz>': a TSC frequency is not 0; "
        + "see 'vmckpt restore --help'"
    ),
    (
      ["restore", "a", "-o", "x", "--cpu-vendor", "via"],
      "the value 'via' is invalid for '--cpu-vendor <vendor>'. Please provide one of 'intel' "
        + "and 'amd'; see 'vmckpt restore --help'"
    ),
    (
      ["restore", "a", "-o", "x", "--overlays", "maybe"],
      "the value 'maybe' is invalid for '--overlays <treatment>'. Please provide one of "
        + "'apply' and 'omit'; see 'vmckpt restore --help'"
    ),
    (
      ["restore", "a", "-o", "x", "--format", "qcow2"],
      "the value 'qcow2' is invalid for '--format <format>'. Please provide one of 'raw', 'elf', "
        + "'lime', 'propolis', 'qemu-stream', 'qemu', 'libvirt-save', "
        + "'cloud-hypervisor' or 'firecracker'; "
        + "see 'vmckpt restore --help'"
    ),
    (["show"], "missing expected argument '<ref>'; see 'vmckpt show --help'"),
    (
      ["show", "a b"],
      #"""
      invalid snapshot reference "a b"; a snapshot reference has 1 to 255 letters, digits and \#
      ._-/:@+
      """#
    ),
    (["diff", "a"], "missing expected argument '<b>'; see 'vmckpt diff --help'"),
    (
      ["diff", "a", "b", "--limit", "x"],
      "the value 'x' is invalid for '--limit <n>': expected a number of ranges, or 'all'; "
        + "see 'vmckpt diff --help'"
    ),
    (["tag", "a"], "there is no tag to set or remove; give KEY=VALUE or --remove KEY"),
    (["tag", "a", "k=v", "--remove", "k"], #"tag "k" is both set and removed; give one"#),
    (
      ["tag", "a", "k"],
      "the value 'k' is invalid for '<key=value>': expected KEY=VALUE; see 'vmckpt tag --help'"
    ),
    (["delete"], "missing expected argument '<ref> ...'; see 'vmckpt delete --help'"),
    (["stats", "x"], "unexpected argument 'x'; see 'vmckpt stats --help'"),
  ])
  func oneLine(arguments: [String], message: String) throws {
    let directory = try WorkDirectory()
    let run = try ToolRun(arguments, in: directory)
    #expect(run.errors == "vmckpt: \(message)\n")
    #expect(run.output == "")
    #expect(run.status == .exit(64))
    #expect(throws: (any Error).self) { try directory.read("store.db") }
  }

  @Test func jsonIsAskedForEvenWhereTheRestIsWrong() throws {
    let directory = try WorkDirectory()
    let run = try ToolRun(["list", "--bogus", "--json"], in: directory)
    #expect(
      run.errors == """
        {"error":{"code":"invalid-argument","exit_code":64,"hint":"see 'vmckpt list --help'",\
        "message":"unknown option '--bogus'"}}

        """
    )
    #expect(run.output == "")
    #expect(run.status == .exit(64))
  }

  @Test func behindTheTerminatorItIsAnArgument() throws {
    let run = try ToolRun(["list", "--", "--json"], in: try WorkDirectory())
    #expect(run.errors == "vmckpt: unexpected argument '--json'; see 'vmckpt list --help'\n")
  }

  @Test func hostileArgumentsAreShownEscaped() throws {
    let run = try ToolRun(["list", "\u{1B}[31mred\n\u{202E}x"], in: try WorkDirectory())
    #expect(
      run.errors
        == "vmckpt: unexpected argument '\\u{1B}[31mred \\u{202E}x'; see 'vmckpt list --help'\n"
    )
  }
}
