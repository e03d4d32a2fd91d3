import VMCheckpoint

/// The migration capabilities that a live save changes, and puts back.
///
/// With `background-snapshot` QEMU stops the guest to take its devices' state and to write-protect its RAM, and lets
/// it go on. RAM is sent then. Before the guest, or QEMU's devices, write to a page that was not sent, the kernel
/// stops them (userfaultfd), and QEMU sends the page first. That needs Linux 5.7 and, for QEMU, the right to handle
/// faults in the kernel: root, or `vm.unprivileged_userfaultfd`. QEMU says so when the capability is switched on. It
/// works without KVM as well, since no tracker of writes has a part in it. Only a QEMU that lets go of the guest when
/// such a snapshot comes to nothing is asked for one (``QEMUVirtualMachine/endsBackgroundSnapshots``).
struct QEMUSettings {
  /// Capabilities that change nothing of the stream, and stay as they are.
  private static let harmless: Set<String> = [
    "events", "auto-converge", "late-block-activate", "validate-uuid", "zero-blocks",
    "rdma-pin-all", "dirty-limit",
  ]
  /// Those of them that QEMU takes together with a background snapshot.
  private static let harmlessInBackground: Set<String> = ["events"]
  private static let background = "background-snapshot"

  /// Those that may change, as they are.
  let original: [String: Bool]
  /// The same, so that the stream has devices and RAM and nothing else; without RAM that can be read in place.
  let forStream: [String: Bool]
  /// The same for a background snapshot; `nil` when there can be none.
  let forBackground: [String: Bool]?

  init(_ machine: QEMUVirtualMachine, leavesStopped: Bool) {
    let stream = machine.capabilities.reduce(into: [String: Bool]()) { wanted, capability in
      wanted[capability.key] =
        capability.key == "x-ignore-shared"
        ? machine.ram.paths != nil
        : capability.value && Self.harmless.contains(capability.key)
    }
    var background: [String: Bool]?
    // Another process may write to RAM that is shared, and QEMU would not see it.
    if machine.endsBackgroundSnapshots, machine.state == "running", !leavesStopped,
      machine.ram.paths == nil,
      !machine.ram.hasSharedBackend, machine.capabilities[Self.background] != nil
    {
      background = machine.capabilities.reduce(into: [:]) { wanted, capability in
        wanted[capability.key] =
          capability.key == Self.background
          || capability.value && Self.harmlessInBackground.contains(capability.key)
      }
    }
    let changed = Set(
      machine.capabilities.keys.filter { name in
        let isOn = machine.capabilities[name]
        return stream[name] != isOn || (background != nil && background?[name] != isOn)
      }
    )
    original = machine.capabilities.filter { changed.contains($0.key) }
    forStream = stream.filter { changed.contains($0.key) }
    forBackground = background?.filter { changed.contains($0.key) }
  }
}

extension QMPClient {
  /// Sets migration capabilities.
  func set(_ capabilities: [String: Bool]) throws(VMCheckpointError) {
    guard !capabilities.isEmpty else { return }
    let list = capabilities.sorted { $0.key < $1.key }.map {
      ["capability": $0.key, "state": $0.value] as [String: Any]
    }
    try run("migrate-set-capabilities", ["capabilities": list])
  }
}
