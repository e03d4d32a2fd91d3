import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// `vmckpt serve --uffd` with a client that has userfaultfd, whose pages are compared with a restore's.
@Suite(.serialized, .enabled(if: geteuid() == 0, "userfaultfd needs root here"))
struct ServeTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private func json(_ outcome: ProcessOutcome) throws -> [String: Any] {
    try #require(outcome.succeeded, "\(outcome)")
    return try outcome.jsonObject()
  }

  /// A guest with RAM in two regions and overlays, and what a restore shows.
  private func saveOverlaidGuest() throws -> [UInt8] {
    let overlays = try bench.write(
      "overlays.json",
      """
      {"format": 1, "guest_os_id": "0x8100060100000000", "overlays": [
        {"kind": "hypercall", "pfn": 3, "variant": "vmcall"},
        {"kind": "reference-tsc", "pfn": "0x1005", "tsc_frequency_hz": 2400000000}]}
      """
    )
    try bench.save(
      "guest",
      sampleRAM(512, seed: 3),
      "--overlays",
      overlays,
      "--region",
      "gpa=0,size=1M,offset=0,name=low",
      "--region",
      "gpa=16M,size=1M,offset=1M,name=high"
    )
    return try bench.restore("guest")
  }

  @Test(
    "each page that a VM touches is the restored one",
    arguments: [[], ["--no-prefetch"]],
    [false, true]
  )
  func everyPage(options: [String], isShared: Bool) throws {
    let ram = try saveOverlaidGuest()
    let server = try ServeTool(
      bench,
      "guest",
      "--once",
      "--json",
      options.first ?? "--overlays=apply"
    )
    var vm: ServedVM? = try ServedVM(
      parts: [(1 << 20, 256), (0, 256)],
      socketPath: server.socketPath,
      isShared: isShared
    )
    let swapped = Array(ram[(1 << 20)...] + ram[..<(1 << 20)])
    #expect(try vm!.mismatches(swapped, threadCount: 4, seed: 1) == [])
    if !options.isEmpty {
      #expect(server.process.isRunning, "a VM that has not all of its pages is left alone")
      // The VM is gone.
      vm = nil
    }
    // With userfaultfd closed and its memory gone, the kernel has nothing to serve.
    if !options.isEmpty { server.process.send(SIGTERM) }
    let result = try json(try server.process.wait())
    #expect(result["vms"] as? Int == 1)
    #expect(result["poisoned_pages"] as? Int == 0)
    #expect(result["warnings"] as? [String] == [])
    let stored = try bench.sql.integer("SELECT stored_pages FROM snapshot")
    let placed =
      try #require(result["fault_pages"] as? Int) + #require(result["background_pages"] as? Int)
    #expect(placed >= stored)
    if options.isEmpty { #expect(result["complete_vms"] as? Int == 1) }
    _ = vm
  }

  @Test(
    "a VM that gets its last page while its threads wait for others leaves none of them waiting"
  )
  func completion() throws {
    // Few stored pages, so that the server is soon done, and zeros that are asked for meanwhile.
    var ram = [UInt8](repeating: 0, count: 8192 * 4096)
    for page in stride(from: 0, to: 8192, by: 1024) {
      ram.replaceSubrange((page * 4096)..<(page * 4096 + 4), with: [1, 2, 3, 4])
    }
    try bench.save("guest", ram)
    let server = try ServeTool(bench, "guest", "--json")
    for round in 0..<10 {
      let vm = try ServedVM(pageCount: 8192, socketPath: server.socketPath)
      #expect(try vm.mismatches(ram, threadCount: 4, seed: UInt64(round)) == [])
    }
    #expect(try json(try server.end())["vms"] as? Int == 10)
  }

  @Test("pages beside the one that a VM waits for come when it waits no more")
  func neighbours() throws {
    let ram = sampleRAM(256, seed: 19)
    try bench.save("guest", ram)
    let server = try ServeTool(bench, "guest", "--no-prefetch", "--json")
    let vm = try ServedVM(pageCount: 256, socketPath: server.socketPath)
    let rows = try bench.sql.run("SELECT first_pfn, page_count FROM ram_extent")
    var touched: [Int] = []
    var expectedCount = 0
    for row in rows.split(separator: "\n") {
      let numbers = row.split(separator: "|").compactMap { Int($0) }
      touched.append(numbers[0] + numbers[1] / 2)
      expectedCount += numbers[1]
    }
    #expect(expectedCount > 2 * touched.count)
    #expect(vm.mismatches(ram, touched) == [])
    try waitUntil("all pages beside them are there") { vm.residentPageCount == expectedCount }
    let result = try json(try server.end())
    #expect(result["faults"] as? Int == touched.count)
    #expect(result["fault_pages"] as? Int == expectedCount)
    #expect(vm.mismatches(ram, 0..<256) == [])
  }

  @Test(
    "pages before damaged bytes of their chunk are still given, and no other, also when the server ends",
    arguments: [false, true]
  )
  func partlyDamaged(isEnding: Bool) throws {
    // Half of each page can be compressed.
    let noise = incompressibleRAM(16, seed: 21)
    let ram = noise.enumerated().map { $0.offset % 4096 < 2048 ? $0.element : 1 }
    try bench.save("guest", ram)
    #expect(try bench.sql.integer("SELECT count(*) FROM chunk") == 1)
    // Its last eighth: pages before it are whole.
    try bench.sql.run(
      """
      UPDATE chunk_data SET data = CAST(substr(data, 1, length(data) * 7 / 8)
        || zeroblob(length(data) - length(data) * 7 / 8) AS BLOB)
      """
    )
    let server = try ServeTool(bench, "guest", "--no-prefetch", "--json")
    let vm = try ServedVM(pageCount: 16, socketPath: server.socketPath)
    var expected = ram
    for page in [2, 15] {
      try vm.drop(page..<(page + 1))
      let bytes = (page * 4096)..<(page * 4096 + 4096)
      expected.replaceSubrange(bytes, with: repeatElement(0, count: 4096))
    }
    var result: [String: Any]?
    if isEnding { result = try json(try server.end()) }
    let seen = (0..<16).map { page in
      vm.page(page, equals: expected[(page * 4096)..<(page * 4096 + 4096)])
    }
    let rightCount = seen.prefix { $0 == true }.count
    #expect((8..<15).contains(rightCount), "\(seen)")
    #expect(seen[rightCount..<15].allSatisfy { $0 == nil }, "\(seen)")
    #expect(seen[15] == true, "what a VM gave back is zeros")
    let ended = try result ?? json(try server.end())
    #expect(ended["poisoned_pages"] as? Int == 15 - rightCount)
    #expect(ended["removed_pages"] as? Int == 2)
    let warnings = try #require(ended["warnings"] as? [String])
    #expect(warnings.contains { $0.contains("is damaged") }, "\(warnings)")
  }

  @Test(
    "pages that a VM gives back are zeros, before and after they were there",
    arguments: [false, true]
  )
  func removed(prefetches: Bool) throws {
    let ram = incompressibleRAM(2048, seed: 5)
    try bench.save("guest", ram)
    let server = try ServeTool(
      bench,
      "guest",
      prefetches ? "--overlays=apply" : "--no-prefetch",
      "--json"
    )
    let vm = try ServedVM(pageCount: 2048, socketPath: server.socketPath)
    var expected = ram
    func drop(_ pages: Range<Int>) throws {
      try vm.drop(pages)
      for page in pages {
        expected.replaceSubrange(
          (page * 4096)..<(page * 4096 + 4096),
          with: repeatElement(0, count: 4096)
        )
      }
    }
    try drop(100..<164)
    #expect(vm.mismatches(expected, 90..<180) == [])
    try drop(120..<130)
    try drop(700..<701)
    try drop(0..<16)
    #expect(try vm.mismatches(expected, threadCount: 3, seed: 2) == [])
    try drop(1000..<1500)
    #expect(try vm.mismatches(expected, threadCount: 3, seed: 3) == [])
    let outcome = try server.end()
    let result = try json(outcome)
    if !prefetches { #expect(result["removed_pages"] as? Int == 64 + 10 + 1 + 16 + 500) }
    #expect(vm.mismatches(expected, 0..<2048) == [], "the VM goes on when the server has ended")
    #expect(result["complete_vms"] as? Int == 1)
  }

  @Test("an access to a damaged page is an error, never zeros")
  func damaged() throws {
    let ram = incompressibleRAM(64, seed: 7)
    try bench.save("guest", ram)
    let damagedChunk = try bench.sql.integer(
      "SELECT chunk_id FROM ram_extent WHERE first_pfn <= 20 ORDER BY first_pfn DESC LIMIT 1"
    )
    let pages = try bench.sql.run(
      "SELECT first_pfn, page_count FROM ram_extent WHERE chunk_id = \(damagedChunk)"
    )
    let lost = Set(
      pages.split(separator: "\n").flatMap { row in
        let numbers = row.split(separator: "|").compactMap { Int($0) }
        return numbers[0]..<(numbers[0] + numbers[1])
      }
    )
    try bench.sql.run(
      "UPDATE chunk_data SET data = zeroblob(length(data)) WHERE chunk_id = \(damagedChunk)"
    )
    let server = try ServeTool(bench, "guest", "--json")
    let vm = try ServedVM(pageCount: 64, socketPath: server.socketPath)
    for page in 0..<64 {
      let isRight = vm.page(page, equals: ram[(page * 4096)..<(page * 4096 + 4096)])
      #expect(isRight == (lost.contains(page) ? nil : true), "page \(page)")
    }
    let result = try json(try server.end())
    #expect(result["poisoned_pages"] as? Int == lost.count)
    let warnings = try #require(result["warnings"] as? [String])
    #expect(warnings.contains { $0.contains("chunk \(damagedChunk)") }, "\(warnings)")
    for page in lost { #expect(vm.page(page, equals: ram[..<4096]) == nil) }
  }

  @Test("a server that is killed at any moment is replaced, and no page is wrong", .slow)
  func killed() throws {
    let ram = sampleRAM(16_384, seed: 9)
    try bench.save("guest", ram)
    let server = try ServeTool(bench, "guest", "--no-prefetch")
    let vm = try ServedVM(pageCount: 16_384, socketPath: server.socketPath)
    var expected = ram
    var generator = TestGenerator(seed: 11)
    #expect(vm.mismatches(expected, 0..<16) == [])
    for round in 0..<20 {
      let part = (round * 800)..<((round + 1) * 800)
      let reader = ThreadResult { [expected] in vm.mismatches(expected, part.shuffled()) }
      let dropped = (16_000 + round * 10)..<(16_000 + round * 10 + 5)
      usleep(UInt32(generator.int(0...20_000)))
      // Now and then the keeper, which must not matter either.
      let victims = server.processes(areKeepers: round % 5 == 4)
      for victim in victims { kill(victim, SIGKILL) }
      // A removal that comes while nobody serves waits for the next server.
      try vm.drop(dropped)
      for page in dropped {
        expected.replaceSubrange(
          (page * 4096)..<(page * 4096 + 4096),
          with: repeatElement(0, count: 4096)
        )
      }
      #expect(reader.wait() == [], "round \(round)")
      // Until both have what the other one's death needs: who kills both at once leaves a VM that waits for ever. What
      // was killed may be in the lists for a moment.
      try waitUntil("a keeper and a server run, and have the VM") {
        let (keepers, servers) = (
          server.processes(areKeepers: true), server.processes(areKeepers: false)
        )
        return keepers.count == 1 && servers.count == 1
          && (keepers + servers).allSatisfy { !victims.contains($0) && server.hasVM($0) }
      }
    }
    #expect(try vm.mismatches(expected, threadCount: 2, seed: 4) == [])
    // Before it looks for signals, that would be one more kill.
    let last = try #require(server.processes(areKeepers: false).first)
    try waitUntil("the last server can be asked to end") { signalIsCaught(last, SIGTERM) }
    kill(last, SIGTERM)
    try server.waitUntilGone()
    #expect(vm.mismatches(expected, 0..<16_384) == [])
    #expect(try bench.sql.integer("SELECT count(*) FROM lease") == 0)
  }

  @Test("what is served is not deleted, and gc, optimize and saves meanwhile change no page", .slow)
  func maintenance() throws {
    let ram = sampleRAM(4096, seed: 13)
    for index in 0..<3 {
      var other = ram
      for page in stride(from: index, to: 4096, by: 3) {
        other.replaceSubrange((page * 4096)..<(page * 4096 + 8), with: [1, 2, 3, 4, 5, 6, 7, 8])
      }
      try bench.save("other\(index)", other)
    }
    try bench.save("guest", ram)
    let server = try ServeTool(bench, "guest", "--no-prefetch")
    let vm = try ServedVM(pageCount: 4096, socketPath: server.socketPath)
    #expect(vm.mismatches(ram, stride(from: 0, to: 4096, by: 7)) == [])
    let refusal = try bench.tool.run("delete", "guest", "other0")
    #expect(refusal.ending == .exit(75))
    #expect(
      refusal.standardError.hasPrefix(
        "vmckpt: snapshot \"guest\" is served by lease 1 (userfaultfd, \"\(server.socketPath)\"), since "
      ),
      "\(refusal)"
    )
    #expect(try bench.tool.snapshotNames().contains("other0"), "all or none")
    let reader = ThreadResult { vm.mismatches(ram, (0..<4096).shuffled()) }
    for index in 0..<3 {
      try bench.tool.succeed("delete", "other\(index)")
      try bench.tool.succeed("gc")
      try bench.tool.succeed("optimize")
      try bench.save("new\(index)", sampleRAM(256, seed: UInt64(50 + index)))
    }
    #expect(reader.wait() == [])
    let held = try bench.tool.json("lease", "list")["leases"] as? [[String: Any]]
    #expect(held?.first?["held"] as? Bool == true)
    #expect(try bench.tool.run("lease", "drop", "1").ending == .exit(75))
    #expect(try server.end().ending == .exit(0))
    #expect(vm.mismatches(ram, 0..<4096) == [])
    try bench.tool.succeed("delete", "guest")
    #expect(try bench.tool.verify().succeeded)
  }

  @Test("a lease whose server is gone keeps the snapshot, until it is dropped, or seven days later")
  func lostLease() throws {
    try bench.save("guest", sampleRAM(64, seed: 15))
    func lose() throws {
      let server = try ServeTool(bench, "guest", "--no-prefetch")
      try waitUntil("a keeper runs") { !server.processes(areKeepers: true).isEmpty }
      try waitUntil("there is a lease") { try bench.sql.integer("SELECT count(*) FROM lease") == 1 }
      try server.killWithKeeper()
    }
    try lose()
    let id = try bench.sql.integer("SELECT id FROM lease")
    let refusal = try bench.tool.run("delete", "guest")
    #expect(refusal.ending == .exit(75))
    #expect(refusal.standardError.contains("whose server is gone; a VM may still need its pages"))
    #expect(refusal.standardError.contains("vmckpt lease drop \(id)"))
    #expect(try bench.sql.integer("SELECT count(*) FROM lease WHERE lost_at IS NOT NULL") == 1)
    let collection = try bench.tool.run("gc")
    #expect(collection.standardError.contains("the server of lease \(id) "))
    // The same server again has the same lease, and takes it back.
    let again = try ServeTool(bench, "guest", "--json")
    try waitUntil("the lease is held") {
      try bench.sql.integer("SELECT count(*) FROM lease WHERE lost_at IS NULL") == 1
    }
    _ = try again.end()
    #expect(try bench.sql.integer("SELECT count(*) FROM lease") == 0)

    try lose()
    let next = try bench.sql.integer("SELECT id FROM lease")
    #expect(next > id)
    #expect(
      try bench.tool.run("lease", "drop", "\(next)").text == "Dropped lease \(next) on guest\n"
    )
    #expect(try bench.tool.run("lease", "drop", "\(next)").ending == .exit(66))

    try lose()
    #expect(try bench.tool.run("delete", "guest").ending == .exit(75))
    try bench.sql.run(
      "UPDATE lease SET lost_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-6.9 days')"
    )
    #expect(try bench.tool.run("delete", "guest").ending == .exit(75))
    try bench.sql.run(
      "UPDATE lease SET lost_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-7.1 days')"
    )
    try bench.tool.succeed("delete", "guest")
  }

  @Test("one server serves several VMs, at once and one after another")
  func several() throws {
    let ram = sampleRAM(1024, seed: 17)
    try bench.save("guest", ram)
    let server = try ServeTool(bench, "guest", "--json")
    for round in 0..<2 {
      let vms = try (0..<3).map { _ in try ServedVM(pageCount: 1024, socketPath: server.socketPath)
      }
      for (index, vm) in vms.enumerated() {
        #expect(try vm.mismatches(ram, threadCount: 2, seed: UInt64(round * 10 + index)) == [])
      }
    }
    #expect(try json(try server.end())["vms"] as? Int == 6)
  }
}
