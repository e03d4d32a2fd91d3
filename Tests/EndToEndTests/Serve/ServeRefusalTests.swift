import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// What `vmckpt serve` and `vmckpt lease` refuse, and what peers on the socket cannot do.
@Suite struct ServeRefusalTests {
  private let bench: Workbench

  init() throws {
    bench = try Workbench()
    try bench.save("guest", sampleRAM(64, seed: 1))
  }

  @Test("a path that is taken is not replaced")
  func takenPath() throws {
    let file = try bench.write("pages.sock", "a user's file")
    let outcome = try bench.tool.run("serve", "guest", "--uffd", file)
    expectFailure(outcome, 73, "\"\(file)\" exists, and is not a socket")
    #expect(try readFile(file) == Array("a user's file".utf8))
    #expect(try bench.sql.integer("SELECT count(*) FROM lease") == 0, "no lease is left")

    let long = bench.directory.file(String(repeating: "x", count: 100))
    #expect(try bench.tool.run("serve", "guest", "--uffd", long).ending == .exit(64))
    let nowhere = bench.directory.file("missing/pages.sock")
    #expect(try bench.tool.run("serve", "guest", "--uffd", nowhere).ending == .exit(73))
    #expect(
      try bench.tool.run("serve", "other", "--uffd", bench.directory.file("a")).ending == .exit(66)
    )
    #expect(try bench.tool.run("serve", "guest").ending == .exit(64))
  }

  @Test(
    "a second server does not take a first one's socket, and one that nobody serves is replaced"
  )
  func twoServers() throws {
    let server = try ServeTool(bench, "guest", "--json")
    try waitUntil("it listens") { (try? UnixPeer(server.socketPath)) != nil }
    var status = stat()
    #expect(stat(server.socketPath, &status) == 0 && status.st_mode & 0o777 == 0o600)
    let second = try bench.tool.run("serve", "guest", "--uffd", server.socketPath)
    #expect(second.ending == .exit(73))
    #expect(second.standardError.contains("another program serves at socket"))
    #expect(try server.end().succeeded)
    #expect(!exists(server.socketPath))

    // In a scope of its own: what is left of a server ends with the object.
    let path = try abandonedSocket()
    #expect(exists(path))
    let next = try ServeTool(bench, "guest", "--json")
    try waitUntil("it listens") { (try? UnixPeer(next.socketPath)) != nil }
    let outcome = try next.end()
    #expect(outcome.succeeded, "\(outcome)")
  }

  /// The socket of a server that was killed together with its keeper.
  private func abandonedSocket() throws -> String {
    let server = try ServeTool(bench, "guest", "--json")
    try waitUntil("a keeper runs") { !server.processes(areKeepers: true).isEmpty }
    try server.killWithKeeper()
    return server.socketPath
  }

  @Test("a server that was killed while a program was connected that is no VM leaves no process")
  func killedWithoutVM() throws {
    for round in 0..<12 {
      let server = try ServeTool(bench, "guest")
      var peer: UnixPeer?
      try waitUntil("it listens") {
        peer = try? UnixPeer(server.socketPath)
        return peer != nil
      }
      // Accepted or not, given to the keeper or not.
      if round % 3 > 0 { usleep(UInt32(round) * 500) }
      if round % 2 == 0 { peer = nil }
      server.process.send(SIGKILL)
      _ = try server.process.wait()
      peer = nil
      try server.waitUntilGone("nobody is left, in round \(round)")
    }
    #expect(try bench.tool.run("lease", "drop", "1").ending != .exit(75))
  }

  @Test("peers that send nonsense are refused, and others served")
  func hostilePeers() throws {
    let server = try ServeTool(bench, "guest", "--json")
    var peers: [UnixPeer] = []
    try waitUntil("it listens") {
      guard let peer = try? UnixPeer(server.socketPath) else { return false }
      peers.append(peer)
      return true
    }
    let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
    defer { close(null) }
    let messages: [(String, Int32)] = [
      ("", null), ("[]", -1), ("[", null), (String(repeating: "[", count: 100_000), null),
      (#"[{"base_host_virt_addr":0,"size":4096,"offset":0}]"#, null), ("\u{0}\u{1}", -1),
    ]
    for (text, descriptor) in messages {
      let peer = try UnixPeer(server.socketPath)
      peer.send(text, descriptor)
      peers.append(peer)
    }
    if geteuid() == 0 {
      // A userfaultfd with words that make no sense: it is kept, and not served.
      for text in [
        "{}", "[]", #"[{"base_host_virt_addr":4096,"size":0,"offset":0}]"#,
        #"[{"base_host_virt_addr":18446744073709547520,"size":8192,"offset":0}]"#,
        #"[{"base_host_virt_addr":4096,"size":4096,"offset":262144}]"#,
        #"[{"base_host_virt_addr":4096,"size":8192,"offset":0,"page_size":8192}]"#,
        #"[{"base_host_virt_addr":4096,"size":65536,"offset":0},{"base_host_virt_addr":8192,"size":4096,"offset":65536}]"#,
      ] {
        let peer = try UnixPeer(server.socketPath)
        let descriptor = UnixPeer.userfaultfd()
        peer.send(text, descriptor)
        close(descriptor)
        peers.append(peer)
      }
      let ram = try bench.restore("guest")
      let vm = try ServedVM(pageCount: 64, socketPath: server.socketPath)
      #expect(try vm.mismatches(ram, threadCount: 2, seed: 1) == [])
    }
    peers = []
    #expect(server.process.isRunning)
    let outcome = try server.end()
    #expect(outcome.succeeded, "\(outcome)")
    let warnings = try #require(try outcome.jsonObject()["warnings"] as? [String])
    #expect(warnings.contains { $0.contains("it sent no userfaultfd") }, "\(warnings)")
  }

  @Test(
    "who may not write the store is told, and keeps gc waiting instead",
    .enabled(if: OtherUser.isThere, "needs root, who can become another user")
  )
  func readOnlyStore() throws {
    let ram = try bench.restore("guest")
    try bench.tool.succeed("gc", "--dry-run")
    chmod(bench.directory.path, 0o755)
    chmod(bench.storePath, 0o644)
    chmod(bench.storePath + "-lock", 0o644)
    let directory = try bench.directory.subdirectory("theirs")
    try OtherUser.own(directory)
    let socketPath = "\(directory)/pages.sock"
    let process = try ChildProcess(
      OtherUser.commandLine(bench.tool.commandLine(["serve", "guest", "--uffd", socketPath]))
    )
    let vm = try ServedVM(pageCount: 64, socketPath: socketPath)
    #expect(try vm.mismatches(ram, threadCount: 2, seed: 1) == [])
    try waitUntil("it is told") {
      process.standardErrorSoFar.contains("is read-only, so that there is no lease")
    }
    let collector = try bench.tool.start(["gc"])
    try collector.waitUntilItWaits(for: .lock(bench.storePath + "-lock"))
    process.send(SIGTERM)
    #expect(try process.wait().succeeded)
    #expect(try collector.wait().succeeded)
  }

  @Test(
    "arguments of lease that make no sense",
    arguments: [["list", "3"], ["drop"], ["drop", "x"], ["drop", "0"], []]
  )
  func leaseUsage(arguments: [String]) throws {
    #expect(try bench.tool.start(["lease"] + arguments).wait().ending == .exit(64))
  }

  @Test("a store without leases has none to list")
  func noLeases() throws {
    let outcome = try bench.tool.run("lease", "list")
    #expect(outcome.succeeded && outcome.text == "")
    #expect(outcome.standardError == "vmckpt: there are no leases\n")
    #expect(try bench.tool.run("lease", "drop", "1").ending == .exit(66))
  }
}
