import Foundation

/// A libvirtd of a test's own, with one domain: QEMU as another user, in its sandbox, without KVM.
///
/// It sees its own `/etc/libvirt`, `/var/lib/libvirt` and the like, and its own processes. All of it, the
/// domain too, ends with the object. Others reach it by its socket: ``uri``. Only root can start one.
package final class LibvirtDaemon {
  package static let domain = "counter"

  private let directory: TemporaryDirectory
  private let process: ChildProcess

  /// Starts the daemon and the domain, whose guest counts aloud.
  package init() throws {
    directory = try TemporaryDirectory()
    // Other users may go through to the socket.
    guard chmod(directory.path, 0o711) == 0 else { throw TestSetupError("cannot chmod") }
    for name in ["etc", "lib", "run", "cache", "log", "bin"] {
      try Self.makeDirectory(directory.file(name))
    }
    try Self.makeDirectory(directory.file("lib/images"))
    // As QEMU's user sees it; the directory itself is root's alone.
    try Self.copy(CountingGuest.kernel(), to: directory.file("lib/images/kernel"))
    try Self.copy(CountingGuest.initramfs.get(), to: directory.file("lib/images/initramfs"))
    try writeFile(directory.file("lib/images/disk"), "")
    guard truncate(directory.file("lib/images/disk"), 1 << 20) == 0 else {
      throw TestSetupError("cannot make a disk")
    }
    try writeFile(directory.file("etc/qemu.conf"), Self.driverConfiguration)
    try writeFile(directory.file("etc/libvirtd.conf"), Self.configuration)
    try writeFile(directory.file("bin/gzip"), Self.compressor)
    guard chmod(directory.file("bin/gzip"), 0o755) == 0 else { throw TestSetupError("chmod") }
    process = try ChildProcess([
      "/usr/bin/env", "unshare", "--mount", "--propagation", "private", "--pid", "--fork",
      "--kill-child", "--mount-proc", "/bin/sh", "-c", Self.script, "libvirtd", directory.path,
    ])
    try waitUntil("libvirtd answers") {
      guard process.isRunning else {
        throw TestSetupError("libvirtd: \(process.standardErrorSoFar.suffix(1000))")
      }
      return try exists(directory.file("run/libvirt-sock")) && run("uri").succeeded
    }
    try writeFile(directory.file("domain.xml"), Self.xml)
    try virsh("define", directory.file("domain.xml"))
    try virsh("start", Self.domain)
  }

  deinit {
    process.send(SIGKILL)
    _ = try? process.wait(timeoutSeconds: 20)
  }

  private static let script = """
    set -e
    for pair in etc:/etc/libvirt lib:/var/lib/libvirt run:/run/libvirt \\
      cache:/var/cache/libvirt log:/var/log/libvirt; do
      mkdir -p "${pair#*:}"
      mount --bind "$1/${pair%%:*}" "${pair#*:}"
    done
    # The daemon looks its usual user up although it is set to another; a package that is not needed makes that
    # user. The names last as long as the namespace.
    for database in passwd group; do
      cp "/etc/$database" "$1/$database"
      chmod 644 "$1/$database"
      grep -q '^libvirt-qemu:' "$1/$database" || case $database in
        passwd) echo 'libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin' >>"$1/passwd" ;;
        group) echo 'libvirt-qemu:x:64055:' >>"$1/group" ;;
      esac
      mount --bind "$1/$database" "/etc/$database"
    done
    export PATH="$1/bin:$PATH" SLOW="$1/slow"
    libvirtd --config /etc/libvirt/libvirtd.conf &
    wait
    """

  private static let configuration = """
    auth_unix_ro = "none"
    auth_unix_rw = "none"
    unix_sock_dir = "/run/libvirt"
    """

  private static let driverConfiguration = """
    user = "nobody"
    group = "nogroup"
    seccomp_sandbox = 1
    security_driver = "none"
    stdio_handler = "file"
    cgroup_controllers = []
    snapshot_image_format = "gzip"
    """

  /// Compresses slowly for as long as the file SLOW is there, and so keeps libvirt's job from ending.
  private static let compressor = """
    #!/usr/bin/python3
    import os, subprocess, sys, time
    gzip = subprocess.Popen(["/usr/bin/gzip", *sys.argv[1:]], stdin=subprocess.PIPE)
    while piece := os.read(0, 65536):
        gzip.stdin.write(piece)
        if os.path.exists(os.environ["SLOW"]):
            time.sleep(0.05)
    gzip.stdin.close()
    sys.exit(gzip.wait())
    """

  private static let xml = """
    <domain type='qemu'>
      <name>\(domain)</name>
      <memory unit='MiB'>128</memory>
      <os>
        <type arch='x86_64' machine='q35'>hvm</type>
        <kernel>/var/lib/libvirt/images/kernel</kernel>
        <initrd>/var/lib/libvirt/images/initramfs</initrd>
        <cmdline>console=ttyS0 quiet interval=0.2</cmdline>
      </os>
      <features><acpi/></features>
      <devices>
        <emulator>/usr/bin/qemu-system-x86_64</emulator>
        <disk type='file' device='disk'>
          <driver name='qemu' type='raw'/>
          <source file='/var/lib/libvirt/images/disk'/>
          <target dev='vda' bus='virtio'/>
        </disk>
        <disk type='file' device='cdrom'>
          <target dev='sda' bus='sata'/>
          <readonly/>
        </disk>
        <serial type='file'>
          <source path='/var/lib/libvirt/images/console' append='on'/>
        </serial>
        <memballoon model='none'/>
      </devices>
    </domain>
    """

  /// How to reach the daemon.
  package var uri: String { "qemu+unix:///system?socket=\(directory.file("run/libvirt-sock"))" }

  /// What QEMU's log of the domain says.
  package var log: String {
    (try? readFile(directory.file("log/qemu/\(Self.domain).log")))
      .map { String(decoding: $0, as: UTF8.self) } ?? ""
  }

  /// Whether a job of the domain's memory takes as long as it can.
  package var isSlow: Bool {
    get { exists(directory.file("slow")) }
    set {
      if newValue {
        try? writeFile(directory.file("slow"), "")
      } else {
        unlink(directory.file("slow"))
      }
    }
  }

  /// Runs `virsh COMMAND`, which must succeed, and returns what it prints.
  @discardableResult
  package func virsh(_ arguments: String...) throws -> String {
    let outcome = try run(arguments)
    guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
    return outcome.text.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  private func run(_ arguments: String...) throws -> ProcessOutcome { try run(arguments) }

  private func run(_ arguments: [String]) throws -> ProcessOutcome {
    try VMCheckpointTestSupport.run(
      ["/usr/bin/env", "virsh", "--quiet", "--connect", uri] + arguments,
      environment: ["LC_ALL": "C"]
    )
  }

  /// The domain's state and its reason, such as `running (booted)`.
  package func state() throws -> String { try virsh("domstate", Self.domain, "--reason") }

  /// What the guest has printed since it was first started.
  package func counts() -> [CountingGuest.Count] {
    CountingGuest.counts(console: directory.file("lib/images/console"))
  }

  /// Waits for `count` more numbers than there are now; returns all.
  package func waitForMore(_ count: Int) throws -> [CountingGuest.Count] {
    let wanted = counts().count + count
    try waitUntil("the guest counts on") { counts().count >= wanted }
    return counts()
  }

  /// The domain's QEMU: its arguments, and the user that it runs as.
  package func machine() throws -> (arguments: [String], user: String) {
    let uuid = try virsh("domuuid", Self.domain)
    for name in directoryEntries("/proc") where Int(name) != nil {
      guard let bytes = try? readFile(procFile: "/proc/\(name)/cmdline") else { continue }
      let arguments = bytes.split(separator: "\0").map(String.init)
      guard arguments.contains(uuid),
        let status = try? readFile(procFile: "/proc/\(name)/status"),
        let line = status.split(separator: "\n").first(where: { $0.hasPrefix("Uid:") })
      else { continue }
      return (arguments, String(line.split(separator: "\t")[1]))
    }
    throw TestSetupError("no QEMU of the domain's")
  }

  private static func makeDirectory(_ path: String) throws {
    guard mkdir(path, 0o755) == 0 else { throw TestSetupError("cannot make \(path)") }
  }

  private static func copy(_ source: String, to path: String) throws {
    try FileManager.default.copyItem(atPath: source, toPath: path)
    guard chmod(path, 0o644) == 0 else { throw TestSetupError("cannot chmod \(path)") }
  }
}
