import Testing
import VMCheckpointCommands

/// What is refused of `libvirt:DOMAIN` and `--connect` before virsh is asked.
@Suite struct LibvirtSourceTests {
  private func run(_ arguments: String...) throws -> ToolRun {
    try ToolRun(["save"] + arguments, in: try WorkDirectory())
  }

  @Test(arguments: ["a/b", "../a", "a\u{7}", "a\n", String(repeating: "a", count: 256)])
  func aNameThatNoDomainHasIsRefused(name: String) throws {
    let outcome = try run("libvirt:\(name)")
    #expect(outcome.status == .exit(64))
    #expect(outcome.errors.contains("is not the name of a domain; virsh list --all shows"))
  }

  @Test(arguments: [
    "qemu+ssh://far/system", "qemu+ssh:///system", "qemu://far/system",
    "qemu+tcp://localhost/system",
    "qemu+unix://far/system", "qemu+ext:///system?command=x", "qemu+libssh2://far/system?x=/",
  ])
  func aConnectionToAnotherHostIsRefused(uri: String) throws {
    let outcome = try run("libvirt:web", "--connect", uri)
    #expect(outcome.status == .exit(64))
    #expect(outcome.errors.contains("leads to another host"), "\(outcome.errors)")
  }

  @Test(arguments: ["xen:///system", "test:///default", "lxc:///", "qemux:///system", ":"])
  func anotherHypervisorIsRefused(uri: String) throws {
    let outcome = try run("libvirt:web", "--connect", uri)
    #expect(outcome.status == .exit(64))
    #expect(outcome.errors.contains("is not a connection to libvirt's QEMU driver"))
  }

  @Test func connectGoesWithLibvirtOnly() throws {
    let outcome = try run("x", "--connect", "qemu:///system")
    #expect(outcome.status == .exit(64))
    #expect(outcome.errors == "vmckpt: --connect goes with a SOURCE of libvirt:; leave it out\n")
    #expect(
      try run("libvirt:web", "--connect", "").errors
        == "vmckpt: --connect \"\" is not a URI; such as qemu:///system\n"
    )
  }
}
