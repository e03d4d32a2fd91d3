import Foundation
import Glibc
import Synchronization
import Testing
import VMCheckpointTestSupport

/// VMs that run while their pages are still in an object store.
@Suite(.serialized, .enabled(if: geteuid() == 0, "userfaultfd needs root here"))
struct LazyRemoteTests {
  private let bench: RemoteBench
  private let server: MockObjectStore

  init() throws {
    bench = try RemoteBench()
    server = try MockObjectStore()
  }

  private static let credentials = [
    "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
  ]

  /// A host that knows the remote, and may use it.
  private struct Host {
    let tool: VMCkptTool

    func start(_ arguments: [String]) throws -> ChildProcess {
      try ChildProcess(tool.commandLine(arguments), environment: LazyRemoteTests.credentials)
    }

    func run(_ arguments: String...) throws -> ProcessOutcome { try start(arguments).wait() }

    @discardableResult
    func callAsFunction(_ arguments: String...) throws -> ProcessOutcome {
      let outcome = try start(arguments).wait()
      guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
      return outcome
    }

    var sql: SQLiteShell { SQLiteShell(tool.storePath) }

    /// What a command says, as JSON, of the only snapshot that it is about.
    func snapshot(_ arguments: String...) throws -> [String: Any] {
      let outcome = try start(arguments + ["--json"]).wait()
      let snapshots = try outcome.jsonObject()["snapshots"] as? [[String: Any]]
      guard let first = snapshots?.first else { throw TestSetupError("\(outcome)") }
      return first
    }

    /// The working sets of the store, with the time of their recording.
    func recording() throws -> String {
      let name = "working_set"
      guard try sql.integer("SELECT count(*) FROM sqlite_schema WHERE name = '\(name)'") == 1 else {
        return ""
      }
      return try sql.run(
        """
        SELECT recorded_at, door, first_pfn, page_count
          FROM working_set JOIN working_set_run USING (snapshot_id) ORDER BY position
        """
      )
    }

    func missingCount() throws -> Int {
      try sql.integer(
        """
        SELECT count(*) FROM chunk c
         WHERE NOT EXISTS (SELECT 1 FROM chunk_data d WHERE d.chunk_id = c.id)
        """
      )
    }
  }

  private func host(_ name: String, _ verb: String) throws -> Host {
    let host = Host(tool: try VMCkptTool(storePath: bench.directory.file("\(name).db")))
    let endpoint = "http://127.0.0.1:\(server.port)"
    try host("remote", verb, "s3://\(server.bucket)/fleet", "--endpoint", endpoint)
    return host
  }

  /// A VM's server that is asked to end when the object goes away.
  private final class Server {
    let process: ChildProcess
    let socketPath: String

    init(_ host: Host, _ directory: TemporaryDirectory, _ options: [String]) throws {
      socketPath = directory.file("pages-\(UUID().uuidString.prefix(8)).sock")
      let arguments = ["serve", "guest", "--uffd", socketPath, "--record-working-set", "0"]
      process = try host.start(arguments + options)
    }

    deinit {
      if process.isRunning { process.send(SIGKILL) }
      for name in directoryEntries("/proc") {
        let line = (try? readFile(procFile: "/proc/\(name)/cmdline")) ?? ""
        if line.contains(socketPath), let process = Int32(name) { kill(process, SIGKILL) }
      }
    }

    func result() throws -> [String: Any] {
      let outcome = try process.wait()
      guard outcome.succeeded else { throw TestSetupError("\(outcome)") }
      return try outcome.jsonObject()
    }
  }

  /// The requests for packs so far, each with the first byte that it asks for.
  private var packRequests: [(path: String, start: Int)] {
    server.requests.compactMap { request in
      guard request.method == "GET", request.path.contains("/packs/"),
        let range = request.headers["range"]?.dropFirst("bytes=".count),
        let start = Int(range.prefix { $0 != "-" })
      else { return nil }
      return (request.path, start)
    }
  }

  /// Records a working set of `guest`. It ends when the server is asked to, so that all pages are touched in time.
  private func record(_ ram: [UInt8], touching pages: Range<Int>, on host: Host) throws {
    let server = try Server(host, bench.directory, ["--once", "--record-working-set", "600"])
    let vm = try ServedVM(pageCount: ram.count / 4096, socketPath: server.socketPath)
    #expect(vm.mismatches(ram, pages) == [])
    // What was watched for less than a second is not kept.
    usleep(1_100_000)
    server.process.send(SIGTERM)
    let outcome = try server.process.wait()
    #expect(outcome.succeeded, "\(outcome)")
    withExtendedLifetime(vm) {}
  }

  /// A host that has fetched a guest with this RAM.
  private func fetched(_ ram: [UInt8], workingSet: Range<Int>? = nil) throws -> Host {
    let one = try host("one", "init")
    try bench.save("guest", ram, on: one.tool)
    if let workingSet {
      try record(ram, touching: workingSet, on: one)
    }
    try one("push", "guest")
    let two = try host("two", "add")
    try two("remote", "fetch")
    return two
  }

  @Test("what a VM touches first comes first, before there is a VM, and all else follows")
  func workingSetFirst() throws {
    let ram = incompressibleRAM(6000)
    let touched = 5200..<5230
    let two = try fetched(ram, workingSet: touched)
    let shown = try two.tool.json("show", "guest")["working_set"] as? [String: Any]
    #expect(try #require(shown?["pages"] as? Int) >= touched.count)
    let place = try two.sql.run(
      """
      SELECT p.offset FROM chunk_place p JOIN ram_extent e ON e.chunk_id = p.chunk_id
       WHERE e.first_pfn <= \(touched.lowerBound) AND e.first_pfn + e.page_count > \(touched.lowerBound)
      """
    )
    let before = packRequests.count
    let served = try Server(two, bench.directory, ["--once", "--json"])
    try waitUntil("all pages came, without a VM") { try two.missingCount() == 0 }
    let requests = packRequests.dropFirst(before)
    // Eight are on their way at a time, and may overtake each other. In the order of pages it would be one of the last,
    // and no range begins there.
    #expect(requests.prefix(16).contains { $0.start == Int(place) }, "\(place): \(requests)")
    // 24 MB in ranges of at most 1 MiB.
    #expect((20...40).contains(requests.count), "\(requests.count)")
    let vm = try ServedVM(pageCount: 6000, socketPath: served.socketPath)
    #expect(try vm.mismatches(ram, threadCount: 2, seed: 1) == [])
    let result = try served.result()
    #expect(result["working_set_of"] as? String == "guest")
    #expect(result["remote_chunks"] as? Int == 375)
    #expect(result["remote_waits"] as? Int == 0)
    #expect(packRequests.count == before + requests.count, "no page came twice")
    #expect(try two.tool.verify().succeeded)
  }

  @Test("a VM that waits for a page does not wait for those that nobody has asked for")
  func faultsFirst() throws {
    let ram = incompressibleRAM(12_000)
    let two = try fetched(ram)
    let page = 11_999
    let place = try two.sql.integer(
      """
      SELECT p.offset FROM chunk_place p JOIN ram_extent e ON e.chunk_id = p.chunk_id
       WHERE e.first_pfn <= \(page) AND e.first_pfn + e.page_count > \(page)
      """
    )
    // What nobody has asked for begins elsewhere, and does not come before the page is there.
    let gate = MockGate()
    defer { gate.open() }
    server.setFault { request in
      request.path.contains("/packs/")
        && request.headers["range"]?.hasPrefix("bytes=\(place)-") != true
        ? .held(gate) : nil
    }
    let before = packRequests.count
    let served = try Server(two, bench.directory, ["--once", "--json"])
    let vm = try ServedVM(pageCount: 12_000, socketPath: served.socketPath)
    try waitUntil("all is asked for that is at a time") { packRequests.count >= before + 8 }
    let arrived = Mutex<[Int]?>(nil)
    let reader = ThreadResult {
      let wrong = vm.mismatches(ram, [page])
      arrived.withLock { $0 = wrong }
    }
    try waitUntil("the page comes before all that is held back") { arrived.withLock { $0 != nil } }
    reader.wait()
    #expect(arrived.withLock { $0 } == [])
    gate.open()
    #expect(try vm.mismatches(ram, threadCount: 2, seed: 1) == [])
    _ = try served.result()
  }

  /// How a remote fails, and what is said of it.
  private static let failures: [(MockObjectStore.Fault, String)] = [
    (.reset, "does not answer as it should"),
    (.status(403, code: "AccessDenied"), "refuses access"),
    (.status(404, code: "NoSuchBucket"), "has no bucket"),
  ]

  @Test("a VM whose remote fails waits, is told why once, and reads no zeros", arguments: 0..<3)
  func lost(failure: Int) throws {
    let (fault, words) = Self.failures[failure]
    let ram = incompressibleRAM(1000)
    let two = try fetched(ram)
    server.setFault { _ in fault }
    let served = try Server(two, bench.directory, ["--once"])
    let vm = try ServedVM(pageCount: 1000, socketPath: served.socketPath)
    let thread = ThreadResult { vm.mismatches(ram, 500..<501) }
    try waitUntil("it is said that the VM waits") {
      served.process.standardErrorSoFar.contains("whoever needs them waits")
    }
    #expect(vm.residentPageCount == 0, "nothing is put in place of what is not here")
    usleep(2_500_000)
    let said = served.process.standardErrorSoFar
    #expect(said.contains(words) && said.contains("origin"), "\(said)")
    server.setFault { _ in nil }
    #expect(thread.wait() == [])
    #expect(try vm.mismatches(ram, threadCount: 2, seed: 1) == [])
    let outcome = try served.process.wait()
    #expect(outcome.succeeded, "\(outcome)")
    let lines = outcome.standardError.split(separator: "\n")
    #expect(lines.count { $0.contains("whoever needs them waits") } == 1, "\(outcome)")
    #expect(lines.count { $0.contains("gives pages again") } == 1, "\(outcome)")
    #expect(outcome.text.contains("1 time it gave nothing"), "\(outcome)")
    #expect(try two.tool.verify().succeeded)
  }

  @Test("how often and how long a VM waited for a remote is in the report")
  func counted() throws {
    let ram = incompressibleRAM(300)
    let two = try fetched(ram)
    server.setFault { _ in .reset }
    let before = packRequests.count
    let served = try Server(two, bench.directory, ["--once", "--json"])
    let vm = try ServedVM(pageCount: 300, socketPath: served.socketPath)
    try waitUntil("the remote is asked") { packRequests.count > before }
    // Tried again for three seconds, it is waited for.
    usleep(8_000_000)
    server.setFault { _ in nil }
    #expect(vm.mismatches(ram, 0..<300) == [])
    let result = try served.result()
    #expect(result["remote_waits"] as? Int == 1)
    #expect(try #require(result["remote_wait_seconds"] as? Double) > 1)
    #expect((result["warnings"] as? [String])?.count == 2)
  }

  @Test("a restore whose remote fails ends, says why, and leaves no file", arguments: 0..<4)
  func restoreEnds(failure: Int) throws {
    let two = try fetched(incompressibleRAM(1000))
    let words: String
    if failure < 3 {
      let (fault, said) = Self.failures[failure]
      words = said
      server.setFault { _ in fault }
    } else {
      words = "does not answer"
      server.stop()
    }
    let target = bench.directory.file("restored.ram")
    let outcome = try two.run("restore", "guest", "-o", target)
    #expect([.exit(69), .exit(77)].contains(outcome.ending), "\(outcome)")
    #expect(outcome.standardError.contains(words), "\(outcome)")
    #expect(outcome.durationSeconds < 120)
    #expect(!exists(target))
  }

  @Test("a server for a VM does not begin where this user may not reach the remote")
  func refusedAtOnce() throws {
    let two = try fetched(incompressibleRAM(100))
    let socket = bench.directory.file("refused.sock")
    let line = two.tool.commandLine(["serve", "guest", "--uffd", socket, "--once"])
    let nowhere = bench.directory.file("nobody")
    let withoutKey = try ChildProcess(
      line,
      environment: ["HOME": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere]
    ).wait()
    #expect(withoutKey.ending == .exit(77), "\(withoutKey)")
    #expect(withoutKey.standardError.contains("credentials"), "\(withoutKey)")
    let stranger = try ChildProcess(
      line,
      environment: Self.credentials.merging(["XDG_STATE_HOME": nowhere]) { $1 }
    ).wait()
    #expect(stranger.ending == .exit(77), "\(stranger)")
    #expect(stranger.standardError.contains("--confirm-remote"), "\(stranger)")
  }

  @Test("pages of a damaged neighbour are an error, and good ones are not")
  func damagedNeighbour() throws {
    let ram = incompressibleRAM(64)
    let two = try fetched(ram)
    let key = try #require(server.requests.last { $0.path.contains("/packs/") }?.path)
      .dropFirst("/\(server.bucket)/".count)
    var pack = try #require(server.object(String(key)))
    // In the second of four chunks.
    pack[100_000] ^= 1
    server.setObject(String(key), pack)
    let served = try Server(two, bench.directory, ["--once", "--json"])
    let vm = try ServedVM(pageCount: 64, socketPath: served.socketPath)
    #expect(vm.mismatches(ram, Array(0..<16) + Array(32..<64)) == [])
    for page in 16..<32 {
      #expect(vm.page(page, equals: ram[(page * 4096)..<(page * 4096 + 4096)]) == nil)
    }
    served.process.send(SIGTERM)
    let result = try served.result()
    #expect(result["poisoned_pages"] as? Int == 16)
  }

  @Test("a snapshot takes its ancestor's working set along, which may not be fetched")
  func inheritedSet() throws {
    let ram = incompressibleRAM(200)
    let one = try host("one", "init")
    try bench.save("guest", ram, on: one.tool)
    try record(ram, touching: 40..<50, on: one)
    try bench.save("next", ram, ["--parent", "guest"], on: one.tool)
    try one("push", "next")
    let two = try host("two", "add")
    try two("remote", "fetch")
    #expect(try two.tool.snapshotNames() == ["next"])
    let set = try two.tool.json("show", "next")["working_set"] as? [String: Any]
    #expect(try #require(set?["pages"] as? Int) >= 10)
  }

  @Test(
    "a working set that was recorded after the push reaches the remote, and hosts that had the snapshot"
  )
  func laterSet() throws {
    let ram = incompressibleRAM(300)
    let two = try fetched(ram)
    let one = Host(tool: try VMCkptTool(storePath: bench.directory.file("one.db")))
    #expect(try two.recording() == "")
    try record(ram, touching: 40..<50, on: one)

    let pushed = try one.snapshot("push", "guest")
    #expect(pushed["working_set_sent"] as? Bool == true)
    #expect(pushed["was_there"] as? Bool == true)
    #expect(pushed["packs"] as? Int == 0)
    #expect(try one.snapshot("push", "guest")["working_set_sent"] as? Bool == false)
    #expect(try two.snapshot("remote", "fetch", "guest")["working_set_came"] as? Bool == true)
    #expect(try two.snapshot("remote", "fetch", "guest")["working_set_came"] as? Bool == false)
    // It is the same recording, and does not go back as a newer one.
    #expect(try two.snapshot("push", "guest")["working_set_sent"] as? Bool == false)
    let three = try host("three", "add")
    try three("pull", "guest")
    let runs = try one.recording()
    #expect(!runs.isEmpty)
    #expect(try two.recording() == runs)
    #expect(try three.recording() == runs)
    #expect(try three.tool.restored("guest", in: bench.directory) == ram)

    // Of the two manifests one is left, and all of the snapshot.
    try one("remote", "gc")
    #expect(self.server.keys("fleet/snapshots/").count == 1)
    let sound = try one("remote", "check", "--read-data", "100", "--json").jsonObject()
    #expect(sound["sound"] as? Bool == true)
    let four = try host("four", "add")
    try four("pull", "guest")
    #expect(try four.recording() == runs)
  }

  @Test(
    "a timer's push leaves no working set behind that was recorded after its snapshot was pushed"
  )
  func laterSetOfAll() throws {
    let ram = incompressibleRAM(200)
    let one = try host("one", "init")
    try bench.save("guest", ram, on: one.tool)
    try bench.save("next", ram, ["--parent", "guest"], on: one.tool)
    try bench.save("other", ram, vm: "other", on: one.tool)
    func pushed(_ options: String...) throws -> [String: Bool] {
      let answer = try one.start(["push", "--all", "--json"] + options).wait().jsonObject()
      let snapshots = try #require(answer["snapshots"] as? [[String: Any]])
      return Dictionary(
        uniqueKeysWithValues: snapshots.map {
          ($0["name"] as? String ?? "", $0["working_set_sent"] as? Bool ?? false)
        }
      )
    }
    #expect(try pushed() == ["guest": false, "next": false, "other": false])
    let two = try host("two", "add")
    try two("remote", "fetch")
    try record(ram, touching: 40..<50, on: one)

    #expect(try pushed("--vm", "other") == [:])
    // Who has only the descendant starts from its ancestor's.
    let packs = self.server.keys("fleet/packs/")
    #expect(try pushed() == ["guest": true, "next": true])
    #expect(self.server.keys("fleet/packs/") == packs)
    #expect(try pushed() == [:])
    for name in ["guest", "next"] {
      #expect(try two.snapshot("remote", "fetch", name)["working_set_came"] as? Bool == true)
    }
    #expect(try two.snapshot("remote", "fetch", "other")["working_set_came"] as? Bool == false)
  }
}
