import Foundation
import Glibc
import Testing
import VMCheckpointTestSupport

/// `vmckpt prune`: what it deletes, and what it never does.
@Suite struct PruneTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private func json(_ arguments: [String]) throws -> [String: Any] {
    let outcome = try bench.tool.start(arguments + ["--json"]).wait()
    try #require(outcome.succeeded, "\(outcome)")
    return try outcome.jsonObject()
  }

  /// Ten snapshots of one VM, a day between them, and one of another.
  private func saveDays() throws {
    for day in 1...10 {
      try bench.save("web/\(day)", incompressibleRAM(16, seed: UInt64(day)), "--vm", "web")
    }
    try bench.save("db/1", incompressibleRAM(16, seed: 50), "--vm", "db")
    try bench.sql.run(
      "UPDATE snapshot SET started_at = strftime('%Y-%m-%dT%H:%M:%fZ', '2026-03-01', '+' || id || ' days')"
    )
  }

  @Test("what no rule keeps is deleted with its pages, and nothing else")
  func prune() throws {
    try saveDays()
    let ram = try bench.restore("web/9")
    let arguments = ["prune", "--keep-last", "1", "--keep-daily", "3", "--keep-tag", "keep=yes"]
    try bench.tool.succeed("tag", "web/2", "keep=yes")
    try bench.tool.succeed("tag", "web/3", "keep=no")
    let sizeBefore = try fileSize(bench.storePath).byteCount

    let dry = try json(arguments + ["--dry-run"])
    #expect(dry["dry_run"] as? Bool == true && dry["collected"] is NSNull)
    #expect(try bench.tool.snapshotNames().count == 11, "nothing was deleted")
    let judged = try #require(dry["snapshots"] as? [[String: Any]])
    #expect(
      judged.filter { $0["kept"] as? Bool == true }.map { $0["name"] as? String }
        == ["web/2", "web/8", "web/9", "web/10", "db/1"]
    )
    #expect(judged[9]["reasons"] as? [String] == ["last", "daily", "newest of its VM"])
    #expect(judged[1]["reasons"] as? [String] == ["tag keep=yes"])

    let done = try json(arguments)
    #expect((done["collected"] as? [String: Any])?["freed_pages"] as? Int == 6 * 16)
    #expect(try bench.tool.snapshotNames() == ["web/2", "web/8", "web/9", "web/10", "db/1"])
    #expect(try bench.restore("web/9") == ram)
    #expect(try bench.tool.verify().succeeded)
    #expect(
      try fileSize(bench.storePath).byteCount < sizeBefore,
      "the space goes back to the file system"
    )

    let again = try bench.tool.start(arguments).wait()
    #expect(again.succeeded && again.text.hasSuffix("\n0 snapshots deleted, 5 kept\n"), "\(again)")
  }

  @Test("the table says of each snapshot whether it stays, and why")
  func table() throws {
    for day in 1...3 {
      try bench.save("web/\(day)", sampleRAM(16, seed: UInt64(day)), "--vm", "web")
    }
    try bench.sql.run(
      "UPDATE snapshot SET started_at = strftime('%Y-%m-%dT%H:%M:%fZ', '2026-03-01', '+' || id || ' days')"
    )
    #expect(
      try bench.tool.run("prune", "--keep-daily", "2", "--dry-run").text == """
        SNAPSHOT  VM   SAVED                     DONE      WHY
        web/1     web  2026-03-02T00:00:00.000Z  would go  -
        web/2     web  2026-03-03T00:00:00.000Z  stays     daily
        web/3     web  2026-03-04T00:00:00.000Z  stays     daily, newest of its VM

        1 snapshot would go, 2 kept

        """
    )
    let done = try bench.tool.run("prune", "--keep-last", "1").text
    #expect(
      done.hasPrefix(
        """
        SNAPSHOT  VM   SAVED                     DONE     WHY
        web/1     web  2026-03-02T00:00:00.000Z  deleted  -
        web/2     web  2026-03-03T00:00:00.000Z  deleted  -
        web/3     web  2026-03-04T00:00:00.000Z  stays    last, newest of its VM

        2 snapshots deleted, 1 kept
        Freed

        """
      ),
      "\(done)"
    )
  }

  @Test("the newest of a VM goes only when that is asked for")
  func newest() throws {
    try saveDays()
    try bench.tool.succeed("prune", "--keep-tag", "none")
    #expect(try bench.tool.snapshotNames() == ["web/10", "db/1"])
    try bench.tool.succeed("prune", "--keep-tag", "none", "--vm", "db", "--delete-newest")
    #expect(try bench.tool.snapshotNames() == ["web/10"])
    let nobody = try bench.tool.run("prune", "--keep-last", "1", "--vm", "other")
    #expect(nobody.succeeded && nobody.text.isEmpty)
    #expect(nobody.standardError == "vmckpt: there are no snapshots to look at\n")
  }

  @Test("what was saved while a clock ran ahead does not stay for years without a word")
  func datedAhead() throws {
    for number in 1...6 {
      try bench.save("web/\(number)", sampleRAM(16, seed: UInt64(number)), "--vm", "web")
    }
    // The clocks of two machines that are in order differ by half a minute; those of a wrong one by days.
    try bench.sql.run(
      """
      UPDATE snapshot SET started_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now',
        CASE WHEN id > 2 THEN '+' || (id - 2) || ' days' ELSE '+0 days' END,
        CASE id WHEN 1 THEN '-30 seconds' WHEN 2 THEN '+30 seconds' ELSE '+90 minutes' END)
      """
    )
    func warning(_ subject: String) -> String {
      "\(subject); if this machine's clock is wrong, set it; if another was when they were saved, "
        + "rules that look at time keep them too long: delete them by name"
    }
    let all = warning(
      "4 snapshots that stay are dated later than now: \"web/6\" by 4 d, \"web/5\" by 3 d, "
        + "\"web/4\" by 2 d, 1 more"
    )
    let shown = try bench.tool.run("prune", "--keep-within", "1h", "--dry-run")
    #expect(shown.standardError == "vmckpt: warning: \(all)\n")
    let judged = try json(["prune", "--keep-within", "1h", "--dry-run"])
    #expect(judged["warnings"] as? [String] == [all])
    let ahead = try #require(judged["snapshots"] as? [[String: Any]]).map {
      $0["ahead_seconds"] as? Double
    }
    #expect(ahead.prefix(2) == [nil, nil])
    // A day and ninety minutes, less the seconds since then.
    let days = (ahead[2] ?? 0) / 86400
    #expect((1.06...1.0625).contains(days), "\(ahead)")
    // What goes is no trouble any more, and what stays by no rule of time neither.
    let done = try bench.tool.run("prune", "--keep-within", "1h", "--keep-last", "1", "--dry-run")
    #expect(done.standardError == "vmckpt: warning: \(all)\n")
    #expect(try bench.tool.run("prune", "--keep-last", "1").standardError == "")
    let one = try bench.tool.run("prune", "--keep-daily", "1")
    #expect(
      one.standardError
        == "vmckpt: warning: "
        + warning("1 snapshot that stays is dated later than now: \"web/6\" by 4 d") + "\n"
    )
    try bench.tool.succeed("prune", "--keep-tag", "none", "--delete-newest")
    #expect(try bench.tool.snapshotNames().isEmpty)
  }

  @Test("without a rule nothing is deleted")
  func noRule() throws {
    try saveDays()
    let outcome = try bench.tool.run("prune", "--delete-newest")
    #expect(outcome.ending == .exit(64))
    #expect(
      outcome.standardError
        == "vmckpt: no rule says which snapshots to keep; give one, such as --keep-last 7\n"
    )
    #expect(try bench.tool.snapshotNames().count == 11)
  }

  @Test(
    "arguments that make no sense",
    arguments: [
      ["--keep-last", "0"], ["--keep-last", "-1"], ["--keep-daily", "x"], ["--keep-within", "7"],
      ["--keep-within", "d"], ["--keep-within", "1d1y"],
      ["--keep-within", "99999999999999999999d"],
      ["--keep-within", "0d"], ["--keep-tag", "=x"], ["--keep-last", "1", "--group-by", "name"],
      ["--keep-last", "1", "--group-by", "tag:"],
    ]
  )
  func usage(arguments: [String]) throws {
    #expect(try bench.tool.start(["prune"] + arguments).wait().ending == .exit(64))
  }

  @Test("a snapshot that is served stays, and the others go")
  func served() throws {
    try saveDays()
    let server = try ServeTool(bench, "web/1", "--json")
    try waitUntil("there is a lease") {
      try bench.sql.integer("SELECT count(*) FROM sqlite_schema WHERE name = 'lease'") == 1
        && bench.sql.integer("SELECT count(*) FROM lease") == 1
    }
    let done = try bench.tool.json("prune", "--keep-last", "1")
    let judged = try #require(done["snapshots"] as? [[String: Any]])
    #expect(judged[0]["reasons"] as? [String] == ["served (lease 1)"])
    #expect(try bench.tool.snapshotNames() == ["web/1", "web/10", "db/1"])
    _ = try server.end()
  }
}
