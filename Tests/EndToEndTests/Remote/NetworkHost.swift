import Foundation
import Glibc
import VMCheckpointTestSupport

/// A host with a network of its own: a network namespace that a virtual cable joins to this machine's, and in which an
/// object store that listens on this machine's loopback answers at the same address.
///
/// Everything goes when the object goes away.
final class NetworkHost {
  /// Whether this user can make one. In CI, root must be able to.
  static let canBeMade: Bool = {
    guard geteuid() == 0 else { return false }
    if environmentValue("CI") == "true" { return true }
    guard let host = try? NetworkHost("probe", in: TemporaryDirectory(), port: nil) else {
      return false
    }
    return (try? run(host.commandLine(["/bin/true"])))?.succeeded == true
  }()

  private static let counter = Counter()
  private let namespace: String
  private var forwarders: [ChildProcess] = []
  let tool: VMCkptTool
  /// What its commands find in their environment.
  let environment: [String: String]

  /// - Parameters:
  ///   - port: Where on this machine's loopback an object store listens.
  ///   - environment: What else its commands find in their environment.
  init(
    _ name: String,
    in directory: TemporaryDirectory,
    port: Int?,
    environment: [String: String] = [:]
  ) throws {
    let number = Self.counter.next()
    namespace = "vmckpt-\(getpid())-\(number)"
    tool = try VMCkptTool(storePath: directory.file("\(name).db"))
    self.environment = environment.merging([
      "XDG_STATE_HOME": try directory.subdirectory("\(name).state")
    ]) { $1 }
    // An interface's name has 15 bytes at most.
    let (outside, inside) = ("vm\(getpid())-\(number)o", "vm\(getpid())-\(number)i")
    // A /30 of its own, of the block for benchmarks.
    let base = (Int(getpid()) % 2048 * 8 + number) * 4
    let address = { (last: Int) in
      "198.\(18 + (base >> 16) % 2).\(base >> 8 & 255).\((base & 255) + last)"
    }
    for line in [
      ["netns", "add", namespace],
      ["link", "add", outside, "type", "veth", "peer", "name", inside, "netns", namespace],
      ["addr", "add", "\(address(1))/30", "dev", outside],
      ["link", "set", outside, "up"],
      ["-n", namespace, "addr", "add", "\(address(2))/30", "dev", inside],
      ["-n", namespace, "link", "set", inside, "up"],
      ["-n", namespace, "link", "set", "lo", "up"],
    ] {
      let outcome = try run(["/usr/bin/env", "ip"] + line)
      guard outcome.succeeded else { throw TestSetupError("\(outcome)") }
    }
    guard let port else { return }
    let relay = ["/usr/bin/env", "python3", "-c", Self.relay]
    forwarders.append(
      try ChildProcess(relay + [address(1), "\(port)", "127.0.0.1", "\(port)"])
    )
    forwarders.append(
      try ChildProcess(commandLine(relay + ["127.0.0.1", "\(port)", address(1), "\(port)"]))
    )
    try waitUntil("the host reaches the object store") {
      try run(
        commandLine(["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/\(port)"])
      ).succeeded
    }
  }

  deinit {
    for forwarder in forwarders {
      forwarder.send(SIGKILL)
      _ = try? forwarder.wait()
    }
    // The cable goes with it.
    _ = try? run(["/usr/bin/env", "ip", "netns", "delete", namespace])
  }

  /// What runs `command` on the host.
  func commandLine(_ command: [String]) -> [String] {
    ["/usr/bin/env", "ip", "netns", "exec", namespace] + command
  }

  /// Starts `vmckpt ARGUMENTS` on the host's store.
  func start(
    _ arguments: [String],
    environment more: [String: String] = [:]
  ) throws -> ChildProcess {
    try ChildProcess(
      commandLine(tool.commandLine(arguments)),
      environment: environment.merging(more) { $1 }
    )
  }

  /// Runs a command that must succeed.
  @discardableResult
  func succeed(_ arguments: String...) throws -> ProcessOutcome {
    let outcome = try start(arguments).wait()
    guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
    return outcome
  }

  /// Copies bytes between connections to one address and connections to another.
  private static let relay = """
    import socket, sys, threading
    here, there = (sys.argv[1], int(sys.argv[2])), (sys.argv[3], int(sys.argv[4]))
    def copy(source, target):
        try:
            while data := source.recv(1 << 18):
                target.sendall(data)
        except OSError:
            pass
        try:
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    listener = socket.create_server(here, backlog=128)
    while True:
        client, _ = listener.accept()
        try:
            server = socket.create_connection(there)
        except OSError:
            client.close()
            continue
        for ends in ((client, server), (server, client)):
            threading.Thread(target=copy, args=ends, daemon=True).start()
    """
}

/// Numbers that are given once.
private final class Counter: @unchecked Sendable {
  private let lock = NSLock()
  private var last = 0

  func next() -> Int {
    lock.withLock {
      last += 1
      return last
    }
  }
}
