import Foundation
import Testing
import VMCheckpointTestSupport

/// What the real libvirt cannot be made to say or do here, said and done by a program called virsh.
@Suite struct VirshTests {
  private let bench: Workbench
  private let virsh: FakeVirsh
  private static let ram = sampleRAM(96, seed: 5)

  init() throws {
    bench = try Workbench()
    virsh = try FakeVirsh(image: Self.image)
  }

  private static var image: [UInt8] {
    var stream = QEMUStreamBuilder()
    stream.header(machine: "pc-i440fx-7.2")
    stream.ramStart([("pc.ram", 96)])
    stream.ramPart(2)
    for index in 0..<96 {
      stream.page("pc.ram", index, Array(ram[(index * 4096)...].prefix(4096)))
    }
    stream.ramEnd()
    stream.ramPart(3)
    stream.ramEnd()
    stream.devices()
    return LibvirtImageBuilder().image(stream: stream.bytes)
  }

  private func start(_ domain: String) throws -> ChildProcess {
    try ChildProcess(
      bench.tool.commandLine(["save", "libvirt:\(domain)"]),
      environment: virsh.environment
    )
  }

  private func save(_ domain: String = "web", _ options: String...) throws -> ProcessOutcome {
    try ChildProcess(
      bench.tool.commandLine(["save", "libvirt:\(domain)"] + options),
      environment: virsh.environment
    ).wait()
  }

  private static let snapshot =
    "--quiet snapshot-create-as --domain=\(FakeVirsh.uuid) --no-metadata "
    + "--memspec=file=FILE,snapshot=external --diskspec=vda,snapshot=no --diskspec=sda,snapshot=no"

  @Test func theMemoryIsASnapshotOfNoDisk() throws {
    expectSuccess(try save("web", "--name", "a"))
    #expect(try bench.restore("a") == Self.ram)
    #expect(virsh.calls.filter { $0.contains("snapshot-create-as") } == [Self.snapshot])
    #expect(bench.directory.entries == ["store.db", "store.db-journal", "store.db-lock"])
    #expect(
      try bench.sql.run("SELECT vm, source FROM snapshot") == "web|libvirt:web"
    )
  }

  /// A name is never an option, nor anything to a shell.
  @Test(arguments: ["--help", "-c", "a b; rm -rf *", "$(reboot)", "ä", "-"])
  func aNameIsOneArgument(name: String) throws {
    expectSuccess(try save(name))
    #expect(virsh.calls.contains("--quiet dominfo --domain=\(name)"))
  }

  @Test func aStoreInADirectoryWithACommaHasItsMemoryBesideIt() throws {
    let place = try bench.directory.subdirectory("a,b")
    let tool = try VMCkptTool(storePath: "\(place)/store.db")
    let outcome = try run(
      tool.commandLine(["save", "libvirt:web"]),
      environment: virsh.environment
    )
    expectSuccess(outcome)
    #expect(virsh.calls.contains { $0.contains("--memspec=file=FILE,snapshot=external") })
  }

  /// Emulation does not know all that a guest writes meanwhile; KVM does.
  @Test func aGuestInKVMRunsWhileItsMemoryIsWritten() throws {
    try virsh.set("dumpxml", "echo \"<domain type='kvm' id='1'>\"")
    expectSuccess(try save())
    #expect(virsh.calls.filter { $0.contains("snapshot-create-as") } == [Self.snapshot + " --live"])
  }

  @Test func aGuestThatWritesTooFastIsStoppedAndSaved() throws {
    try virsh.set("dumpxml", "echo \"<domain type='kvm' id='1'>\"")
    try virsh.set("domjobinfo", "echo 'Operation: Snapshot'; echo 'Iteration:    11   '")
    try virsh.set("domjobabort", "touch $place/aborted")
    try virsh.set(
      "snapshot-create-as",
      """
      case "$*" in *--live)
        head -c 92 $place/image >$file
        until [ -e $place/aborted ]; do sleep 0.05; done
        echo "error: operation aborted: job 'snapshot' canceled by client" >&2
        exit 1 ;;
      esac
      cat $place/image >$file
      """
    )
    let outcome = try save("web", "--name", "a")
    #expect(outcome.succeeded, "\(outcome)")
    #expect(outcome.standardError.contains("writes faster than its memory can be read"))
    #expect(try bench.restore("a") == Self.ram)
    let calls = virsh.calls.filter { $0.contains("snapshot-create-as") }
    #expect(calls == [Self.snapshot + " --live", Self.snapshot])
    #expect(bench.directory.entries == ["store.db", "store.db-journal", "store.db-lock"])
  }

  /// libvirt could not let the domain go on when its job ended.
  @Test func aDomainThatLibvirtHasLeftStoppedGoesOn() throws {
    try virsh.set(
      "domstate",
      "if [ -e $place/resumed ]; then echo running; else echo 'paused (creating snapshot)'; fi"
    )
    try virsh.set("resume", "touch $place/resumed")
    expectSuccess(try save())
    #expect(virsh.calls.filter { $0.contains(" resume ") }.count == 1)

    try virsh.set("domstate", "echo 'paused (creating snapshot)'")
    let outcome = try save()
    #expect(outcome.succeeded, "\(outcome)")
    #expect(
      outcome.standardError.contains(
        "domain \"web\" is paused (creating snapshot), and does not go on; try virsh resume"
      )
    )
  }

  @Test(arguments: ["paused (user)", "paused (I/O error)", "paused (migrating)", "running"])
  func aDomainThatSomethingElseHasStoppedStaysSo(state: String) throws {
    try virsh.set("domstate", "echo '\(state)'")
    expectSuccess(try save())
    #expect(!virsh.calls.contains { $0.contains(" resume ") })
  }

  /// The job that runs is another's, and must go on.
  @Test func anInterruptedSaveAbortsNoJobOfOthers() throws {
    try virsh.set("snapshot-create-as", "touch $place/waits; exec sleep 600")
    let child = try start("web")
    try waitUntil("virsh waits") { virsh.has("waits") }
    child.send(SIGINT)
    let outcome = try child.wait()
    #expect(outcome.ending == .signal(SIGINT), "\(outcome)")
    #expect(!virsh.calls.contains { $0.contains("domjobabort") })
    #expect(bench.directory.entries.isEmpty)
  }

  @Test func aDiskThatWasPluggedInMeanwhileIsNamed() throws {
    try virsh.set(
      "snapshot-create-as",
      "cat $place/image >$file; touch $place/plugged"
    )
    try virsh.set(
      "domblklist",
      "echo ' vda   /a'; if [ -e $place/plugged ]; then echo ' vdb   /b.snapshot'; fi"
    )
    let outcome = try save()
    #expect(outcome.succeeded)
    #expect(outcome.standardError.contains("disk vdb was plugged in during the save"), "\(outcome)")
    #expect(outcome.standardError.contains("/b.snapshot"))
  }

  struct Failure: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var command: String
    var script: String
    var code: Int32
    var message: String
  }

  private static let failures = [
    Failure(
      testDescription: "no libvirtd",
      command: "uri",
      script: "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/x'",
      code: 69,
      message: "cannot connect to libvirt: failed to connect to the hypervisor: Failed to connect"
    ),
    Failure(
      testDescription: "not allowed",
      command: "uri",
      script: "error: failed to connect to the hypervisor\n\nerror: authentication unavailable",
      code: 77,
      message: "cannot connect to libvirt: failed to connect to the hypervisor: authentication"
    ),
    Failure(
      testDescription: "no domain",
      command: "dominfo",
      script: "error: failed to get domain 'web'",
      code: 66,
      message: "libvirt does not have this domain: failed to get domain"
    ),
    Failure(
      testDescription: "busy",
      command: "snapshot-create-as",
      script: "error: Timed out during operation: cannot acquire state change lock",
      code: 69,
      message: "libvirt does something else with the domain: Timed out"
    ),
    Failure(
      testDescription: "a device that cannot be migrated",
      command: "snapshot-create-as",
      script: "error: Requested operation is not valid: domain has assigned non-USB host devices",
      code: 69,
      message: "virsh snapshot-create-as failed: Requested operation is not valid: domain has"
    ),
    Failure(
      testDescription: "a message that deceives",
      command: "snapshot-create-as",
      script: "error: \u{1b}[2Jdone",
      code: 69,
      message: "virsh snapshot-create-as failed: \\u{1b}[2Jdone"
    ),
  ]

  @Test(arguments: failures)
  func whyVirshFailedIsOneLine(failure: Failure) throws {
    try virsh.fail(failure.command, failure.script)
    let outcome = try save()
    #expect(outcome.ending == .exit(failure.code), "\(outcome)")
    #expect(outcome.standardError.hasPrefix("vmckpt: " + failure.message), "\(outcome)")
    #expect(outcome.standardError.split(separator: "\n").count == 1)
    #expect(bench.directory.entries.isEmpty)
  }

  @Test func libvirtElsewhereIsSaidSo() throws {
    try virsh.set("snapshot-create-as", "true")
    expectFailure(
      try save(),
      69,
      "libvirt has written the domain's memory to another file system than this one; run vmckpt "
        + "where libvirtd runs, and not in a container beside it"
    )
    try virsh.set("uri", "echo qemu+tls://far/system")
    expectFailure(
      try save("web", "--connect", "far"),
      64,
      "\"qemu+tls://far/system\" leads to another host, where libvirt would write the domain's "
        + "memory; run vmckpt on that host"
    )
    #expect(virsh.calls.last == "--quiet --connect=far uri")
    #expect(bench.directory.entries.isEmpty)
  }

  @Test func aMissingVirshIsNamedWithItsPackage() throws {
    let outcome = try run(
      bench.tool.commandLine(["save", "libvirt:web"]),
      environment: ["PATH": bench.directory.file("nowhere")]
    )
    expectFailure(
      outcome,
      69,
      "the program virsh is missing; install it, as with: apt-get install libvirt-clients"
    )
  }
}
