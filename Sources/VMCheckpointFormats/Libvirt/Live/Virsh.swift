import VMCheckpoint

/// libvirt's own client, as a program.
///
/// The program, and not the library: its options are the same in all releases, it reads the user's
/// configuration of connections, and building needs nothing of libvirt. It gets no terminal and no shell, and
/// says everything in English.
struct Virsh {
  /// A URI or alias; `nil`: virsh chooses.
  let connection: String?
  let cancellation: CancellationFlag

  /// How long a question may take that is asked to leave things in order.
  private static let patienceSeconds = 10.0
  private static let pollMilliseconds: Int32 = 50

  /// Runs a command to its end.
  ///
  /// - Returns: What it prints.
  /// - Throws: ``VMCheckpointError``: `cancelled`; what went wrong, by virsh's messages.
  func run(_ command: String, _ arguments: [String] = []) throws(VMCheckpointError) -> String {
    let program = try start(command, arguments)
    while !program.hasEnded(within: Self.pollMilliseconds) { try cancellation.check() }
    guard program.succeeded else { throw Self.failure(of: program, command) }
    return program.output
  }

  /// Runs a command that leaves things in order, whether or not the operation was cancelled.
  ///
  /// - Returns: What it prints; `nil` when it failed or took too long.
  func attempt(_ command: String, _ arguments: [String]) -> String? {
    guard let program = try? start(command, arguments) else { return nil }
    let deadline = MonotonicClock.nowSeconds + Self.patienceSeconds
    while !program.hasEnded(within: Self.pollMilliseconds) {
      guard MonotonicClock.nowSeconds < deadline else {
        program.kill()
        return nil
      }
    }
    return program.succeeded ? program.output : nil
  }

  /// Starts a command. A value is never taken for an option: give it as `--option=value`.
  ///
  /// - Throws: ``VMCheckpointError``: `unavailable` when there is no virsh, `outOfResources`.
  func start(
    _ command: String,
    _ arguments: [String]
  ) throws(VMCheckpointError) -> RunningProgram {
    let connect = connection.map { ["--connect=\($0)"] } ?? []
    return try RunningProgram(
      ["virsh", "--quiet"] + connect + [command] + arguments,
      package: "libvirt-clients"
    )
  }

  /// Why a command failed.
  static func failure(of program: RunningProgram, _ command: String) -> VMCheckpointError {
    let lines = program.messages.split(separator: "\n").map { line in
      line.hasPrefix("error: ") ? line.dropFirst(7) : line
    }
    let text = QMPClient.oneLine(
      lines.filter { !$0.allSatisfy(\.isWhitespace) }.joined(separator: ": ")
    )
    func says(_ phrases: String...) -> Bool { phrases.contains { text.contains($0) } }
    if says("failed to connect to the hypervisor") {
      return VMCheckpointError(
        says("Permission denied", "authentication", "access denied")
          ? .permissionDenied : .unavailable,
        "cannot connect to libvirt: \(text)",
        hint: "start libvirtd, or name another connection, as in --connect qemu:///system"
      )
    }
    if says("failed to get domain", "Domain not found") {
      return VMCheckpointError(
        .notFound,
        "libvirt does not have this domain: \(text)",
        hint: "virsh list --all shows those that it has; --connect names another connection"
      )
    }
    if says("state change lock") {
      return VMCheckpointError(
        .unavailable,
        "libvirt does something else with the domain: \(text)",
        hint: "virsh domjobinfo shows what; wait for its end, or stop it with virsh domjobabort"
      )
    }
    if says("No space left on device", "Disk quota exceeded") {
      return VMCheckpointError(
        .inputOutput,
        "libvirt cannot write the domain's memory: \(text)",
        hint: "it is put down for a moment beside the store; free some space and try again"
      )
    }
    return VMCheckpointError(
      says("Permission denied", "access denied") ? .permissionDenied : .unavailable,
      "virsh \(command) failed\(text.isEmpty ? "" : ": \(text)")"
    )
  }
}
