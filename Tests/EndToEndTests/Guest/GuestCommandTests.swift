import Foundation
import Testing
import VMCheckpointTestSupport

/// What a real guest was doing, by the commands that need no SQL.
@Suite(.serialized, .guest) struct GuestCommandTests {
  private let bench: Workbench

  init() throws {
    let guest = try GuestImages()
    bench = try Workbench()
    for (name, path) in zip(["one", "two"], guest.moments) {
      try bench.tool.succeed("save", path, "--vm", "guest", "--name", name)
    }
  }

  private func processes(_ arguments: String...) throws -> [[String: Any]] {
    let outcome = try bench.tool.start(["ps"] + arguments + ["--json"]).wait()
    try #require(outcome.succeeded, "\(outcome)")
    return try #require(try outcome.jsonObject()["processes"] as? [[String: Any]])
  }

  @Test("ps shows the guest's processes, with kernel threads only on demand")
  func ps() throws {
    let own = try processes("two")
    #expect(own.first?["pid"] as? Int == 1 && own.first?["ppid"] as? Int == 0)
    #expect(own.allSatisfy { $0["kernel_thread"] as? Bool == false && $0["note"] is NSNull })
    let interpreter = try #require(own.first { $0["command"] as? String == "awk" })
    #expect(try #require(interpreter["resident_pages"] as? Int) > 25 << 8, "it filled its heap")
    let all = try processes("two", "-e")
    #expect(all.count > own.count)
    let daemon = try #require(all.first { $0["pid"] as? Int == 2 })
    #expect(daemon["command"] as? String == "kthreadd" && daemon["kernel_thread"] as? Bool == true)
    // A parent is there, or it is the kernel.
    let pids = Set(all.compactMap { $0["pid"] as? Int })
    #expect(all.allSatisfy { pids.contains($0["ppid"] as? Int ?? 0) || $0["ppid"] as? Int == 0 })

    let text = try bench.tool.run("ps", "two", "-ef").text.split(separator: "\n")
    #expect(text.count == all.count + 1)
    #expect(
      text[0].split(separator: " ")
        == ["UID", "PID", "PPID", "STATE", "START", "RSS", "VSIZE", "COMMAND"]
    )
    #expect(text.contains { $0.hasSuffix("[kthreadd]") })
  }

  @Test("a tree has each process once, below its parent")
  func tree() throws {
    let all = try processes("two", "-e")
    let lines = try bench.tool.run("ps", "two", "-e", "--tree").text.split(separator: "\n")
      .dropFirst()
    var shown: [Int] = []
    for line in lines { shown.append(try #require(Int(line.split(separator: " ")[0]))) }
    #expect(shown.sorted() == all.compactMap { $0["pid"] as? Int })
    for process in all {
      let (pid, parent) = (process["pid"] as? Int ?? 0, process["ppid"] as? Int ?? 0)
      guard parent != 0 else { continue }
      #expect(shown.firstIndex(of: parent)! < shown.firstIndex(of: pid)!, "\(pid) after \(parent)")
    }
  }

  @Test("dmesg shows the whole log, with the time of day on demand")
  func dmesg() throws {
    let lines = try bench.tool.run("dmesg", "two").text.split(separator: "\n")
    #expect(lines.count > 100)
    #expect(lines.first?.hasPrefix("[    0.000000] Linux version ") == true)
    for line in lines {
      let time = line.dropFirst().prefix(12)
      #expect(line.hasPrefix("[") && Double(time.drop { $0 == " " }) != nil, "\(line)")
    }
    let outcome = try bench.tool.json("dmesg", "two")
    let records = try #require(outcome["records"] as? [[String: Any]])
    #expect(records.compactMap { $0["sequence"] as? Int } == Array(0..<records.count))
    let boot = try #require(outcome["boot_seconds"] as? Int)
    let first = try bench.tool.run("dmesg", "two", "-T").text.prefix { $0 != "]" }.dropFirst()
    #expect(
      try Date(String(first), strategy: .iso8601) == Date(timeIntervalSince1970: Double(boot))
    )
  }

  @Test("diff --who sums up every page that differs, once")
  func who() throws {
    let diff = try bench.tool.json("diff", "one", "two", "--who")
    let owners = try #require(diff["owners"] as? [[String: Any]])
    let counted = owners.reduce(0) { $0 + ($1["page_count"] as? Int ?? 0) }
    let classes = ["added", "zeroed", "changed"].map { (diff[$0] as? [String: Any])?["page_count"] }
    #expect(counted == classes.reduce(0) { $0 + ($1 as? Int ?? 0) })
    let most = try #require(owners.first)
    #expect(most["class"] as? String == "anonymous" && most["name"] as? String == "awk")
    #expect(owners.contains { ($0["file"] as? String)?.hasPrefix("/usr/lib/modules/") == true })
    #expect(try bench.tool.json("diff", "one", "two")["owners"] is NSNull)
    let text = try bench.tool.run("diff", "one", "two", "--who", "--limit", "3").text
    #expect(text.contains("\nWhose pages\n  CLASS      PID  OWNER"), "\(text)")
    #expect(diff["owner_count"] as? Int == owners.count)
    #expect(text.contains("  \(owners.count - 3) more owners (--limit all)\n"), "\(text)")
  }

  @Test("every question about guests is answered, and by the guest's own memory")
  func queries() throws {
    func rows(_ arguments: String...) throws -> [[Any]] {
      let outcome = try bench.tool.start(["query"] + arguments + ["--json"]).wait()
      try #require(outcome.succeeded, "\(outcome)")
      let object = try outcome.jsonObject()
      let columns = try #require(object["columns"] as? [String])
      return try #require(object["rows"] as? [[String: Any]]).map { row in
        columns.map { row[$0] ?? NSNull() }
      }
    }
    let all = try processes("two", "-e")
    #expect(try rows("processes").count == all.count)
    #expect(try rows("largest-processes", "limit=1").first?[1] as? String == "awk")
    let changed = try rows("processes-changed")
    #expect(changed.contains { $0[0] as? String == "grew" })
    #expect(try rows("processes-changed", "two", "two").isEmpty)
    #expect(try rows("log", "one").count > 100)
    #expect(try rows("log-since", "two", "two").isEmpty)
    #expect(try rows("open-files").contains { ($0[3] as? String) == "/dev/ttyS0" })
    _ = try rows("listening")
    let classes = try rows("page-classes")
    let nonzero = classes.reduce(0) { $0 + ($1[2] as? Int ?? 0) }
    #expect(
      try bench.sql.integer("SELECT stored_pages FROM snapshot WHERE name = 'two'") == nonzero
    )
    let unexplained =
      classes.filter { ["other", "unknown"].contains($0[0] as? String) }
      .reduce(0) { $0 + ($1[2] as? Int ?? 0) }
    #expect(unexplained * 100 < nonzero * 3, "97 % have an owner")
    #expect(try rows("whose-page", "0x1000").count == 1)
    #expect(try rows("changed-owners", "limit=1").first?[0] as? String == "anonymous")
    #expect(try rows("written-files", "two", "two").isEmpty)
    _ = try rows("written-files", "one", "two")
  }
}

/// Made-up guests that a real kernel would not be.
@Suite struct HostileGuestTests {
  @Test("a circle of parents is shown once, as a tree")
  func circle() throws {
    let bench = try Workbench()
    for (name, parents) in [
      ("circle", [0, 0, 3, 2]), ("self", [0, 1, 2, 3]), ("all", [0, 3, 1, 2]),
    ] {
      try bench.save(name, SyntheticGuest(parents: parents).ram)
      let lines = try bench.tool.succeed("ps", name, "-e", "--tree").text.split(separator: "\n")
      let pids = lines.dropFirst().compactMap { Int($0.split(separator: " ")[0]) }
      #expect(pids.sorted() == [1, 2, 3], "\(lines)")
    }
    // In the circle 2 is shown first, and 3 is below it.
    let lines = try bench.tool.succeed("ps", "circle", "-e", "--tree").text.split(separator: "\n")
    let shown = lines.suffix(2).map { String($0) }
    #expect(shown.first?.hasSuffix("  kthreadd") == true, "\(lines)")
    #expect(shown.last?.hasSuffix("    worker") == true, "\(lines)")
  }

  @Test("an argument too many is an error and not a condition")
  func surplusArguments() throws {
    let bench = try Workbench()
    try bench.save("one", SyntheticGuest().ram)
    let shell = ExtensionShell(bench.storePath)
    for call in [
      "guest_process('one', 'x')", "guest_process('one', NULL)", "guest_page('one', 'x')",
      "guest_process('one', 'x', 'y')", "guest_os('one', 1)",
    ] {
      let message = try shell.failure("SELECT count(*) FROM \(call);")
      #expect(message.contains("too many arguments"), "\(call): \(message)")
    }
    #expect(try shell.run("SELECT count(*) FROM guest_process('one') WHERE note = 'x';") == "0")
    #expect(try shell.run("SELECT count(*) FROM guest_process('one') WHERE note IS NULL;") == "3")
    #expect(
      try shell.run("SELECT search FROM guest_os WHERE snapshot = 'one' AND note IS NULL;")
        == "whole RAM"
    )
  }

  @Test("a snapshot that cannot be read can be left out of a question about all")
  func unreadableAmongOthers() throws {
    let bench = try Workbench()
    try bench.save("a", SyntheticGuest().ram)
    try bench.save("b", sampleRAM(64))
    try bench.save("c", SyntheticGuest(.after).ram)
    let shell = ExtensionShell(bench.storePath)
    let all = "FROM snapshot s CROSS JOIN guest_process(s.id) p"
    #expect(
      try shell.failure("SELECT count(*) \(all);").contains("no 64-bit Linux kernel was found")
    )
    let readable = """
      FROM snapshot s CROSS JOIN guest_os(s.id) os CROSS JOIN guest_process(s.id) p
       WHERE os.missing IS NULL
      """
    #expect(
      try shell.run("SELECT s.name, count(*) \(readable) GROUP BY s.id;") == "a|3\nc|3"
    )
    #expect(
      try shell.run("SELECT s.name FROM snapshot s, guest_os(s.id) WHERE missing IS NOT NULL;")
        == "b"
    )
  }
}

/// The same of snapshots that are not of a guest that can be read.
@Suite struct UnreadableGuestTests {
  @Test("RAM without a kernel is said to be so, in one line")
  func noKernel() throws {
    let bench = try Workbench()
    try bench.save("random", sampleRAM(200))
    for arguments in [["ps", "random"], ["dmesg", "random"]] {
      let outcome = try bench.tool.start(arguments).wait()
      #expect(outcome.ending == .exit(66), "\(outcome)")
      #expect(outcome.standardOutput.isEmpty)
      #expect(outcome.standardError.contains("no 64-bit Linux kernel was found"), "\(outcome)")
      #expect(outcome.standardError.split(separator: "\n").count == 1)
    }
    for arguments in [["query", "processes"], ["diff", "random", "random", "--who"]] {
      let outcome = try bench.tool.start(arguments).wait()
      #expect(!outcome.succeeded && outcome.endedOrderly, "\(outcome)")
      #expect(!outcome.standardError.contains("is damaged"), "\(outcome)")
    }
  }
}
