import Foundation
import Testing
import VMCheckpointTestSupport

/// `vmckpt status`, and what `verify` notes for it.
@Suite struct StatusTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private func status() throws -> [String: Any] { try bench.tool.json("status") }

  private func vm(_ name: String) throws -> [String: Any] {
    let vms = try #require(try status()["vms"] as? [[String: Any]])
    return try #require(vms.first { $0["vm"] as? String == name })
  }

  @Test("what was saved since the last verify counts as not verified, and what is older does not")
  func unverified() throws {
    try bench.save("a", incompressibleRAM(40, seed: 1), "--vm", "web")
    try bench.save("b", incompressibleRAM(40, seed: 2), "--vm", "web")
    #expect(try vm("web")["unverified_snapshots"] as? Int == 2)
    #expect(try status()["verified_at"] is NSNull)
    try bench.tool.succeed("verify", "a")
    #expect(try vm("web")["unverified_snapshots"] as? Int == 1)
    try bench.tool.succeed("verify")
    #expect(try vm("web")["unverified_snapshots"] as? Int == 0)
    let time = try #require(try vm("web")["verified_at"] as? String)
    #expect(try status()["verified_at"] as? String == time)
    try bench.save("c", incompressibleRAM(40, seed: 3), "--vm", "web")
    let row = try vm("web")
    #expect(row["unverified_snapshots"] as? Int == 1)
    #expect(row["unverified_since"] as? String == row["last_completed_at"] as? String)
    #expect(row["verified_at"] is NSNull)
    #expect(row["last_snapshot"] as? String == "c")
    #expect(row["snapshots"] as? Int == 3)
    // 160 KiB of pages that do not compress, three times.
    #expect(row["last_new_stored_bytes"] as? Int == 40 << 12)
    #expect(row["week_new_stored_bytes"] as? Int == 3 * 40 << 12)
    let age = try #require(row["last_age_seconds"] as? Double)
    #expect((0..<3600).contains(age))
    // The notes of a deleted snapshot go with it.
    try bench.tool.succeed("verify", "c")
    try bench.tool.succeed("delete", "c")
    #expect(try bench.tool.json("verify")["sound"] as? Bool == true)
  }

  @Test("as many parts as there are read each chunk and each snapshot once, and prove the store")
  func parts() throws {
    for number in 1...7 {
      try bench.save("s\(number)", incompressibleRAM(100, seed: UInt64(number)), "--vm", "web")
    }
    let all = try bench.tool.json("verify")
    try bench.sql.run("DELETE FROM verification")
    var (chunks, snapshots) = (0, 0)
    for number in 1...3 {
      #expect(try status()["verified_at"] is NSNull)
      let part = try bench.tool.json("verify", "--part", "next/3")
      #expect(part["part"] as? String == "\(number)/3")
      chunks += part["checked_chunks"] as? Int ?? 0
      snapshots += part["checked_snapshots"] as? Int ?? 0
    }
    #expect(chunks == all["checked_chunks"] as? Int)
    #expect(snapshots == 7)
    #expect(try vm("web")["unverified_snapshots"] as? Int == 0)
    // The part that was read longest ago comes first again.
    #expect(try bench.tool.json("verify", "--part", "next/3")["part"] as? String == "1/3")
    // Another number of parts begins anew.
    #expect(try bench.tool.json("verify", "--part", "2/2")["part"] as? String == "2/2")
    #expect(try status()["verified_at"] is NSNull)
  }

  @Test("damage in one chunk is found by one part, and stays in the status until it is gone")
  func damage() throws {
    let ram = incompressibleRAM(160, seed: 1)
    try bench.save("a", ram, "--vm", "web")
    let data = "SELECT data FROM chunk_data WHERE chunk_id = 4"
    try bench.sql.run("CREATE TABLE kept AS \(data)")
    try bench.sql.run("UPDATE chunk_data SET data = zeroblob(length(data)) WHERE chunk_id = 4")
    var damaged: [String] = []
    for number in 1...3 {
      let outcome = try bench.tool.run("verify", "--part", "\(number)/3", "--json")
      if outcome.ending == .exit(65) { damaged.append("\(number)/3") }
    }
    // Chunk 4 is in part 4 modulo 3, counted from 1; and so is the snapshot that it hurts, 1 modulo 3.
    #expect(damaged == ["2/3"])
    #expect(try status()["problems"] as? Int ?? 0 > 0)
    #expect(try status()["verified_at"] is NSNull)
    let shown = try bench.tool.run("status").standardOutput
    #expect(String(decoding: shown, as: UTF8.self).contains("DAMAGED"))
    try bench.sql.run("UPDATE chunk_data SET data = (SELECT data FROM kept) WHERE chunk_id = 4")
    try bench.sql.run("DROP TABLE kept")
    try bench.tool.succeed("verify", "--part", "2/3")
    #expect(try status()["problems"] as? Int == 0)
    #expect(try status()["verified_at"] is String)
  }

  @Test("a VM whose last snapshot is dated ahead does not look as if it was saved a moment ago")
  func datedAhead() throws {
    for number in 1...3 {
      try bench.save("s\(number)", incompressibleRAM(40, seed: UInt64(number)), "--vm", "web")
    }
    #expect(try vm("web")["ahead_snapshots"] as? Int == 0)
    #expect(try vm("web")["furthest_ahead_snapshot"] is NSNull)
    #expect(try !bench.tool.run("status").text.contains("DATED AHEAD"))
    try bench.sql.run(
      """
      UPDATE snapshot SET completed_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+90 minutes',
        '+' || (5 - id) || ' days') WHERE id > 1
      """
    )
    let row = try vm("web")
    #expect(row["ahead_snapshots"] as? Int == 2)
    #expect(row["furthest_ahead_snapshot"] as? String == "s2")
    // Three days and ninety minutes, less the seconds since then.
    let days = try #require(row["furthest_ahead_seconds"] as? Double) / 86400
    #expect((3.06...3.0625).contains(days))
    // Of the week that comes, and not of the last one.
    #expect(row["week_new_stored_bytes"] as? Int == 40 << 12)
    #expect(row["new_stored_bytes"] as? Int == 3 * 40 << 12)
    let text = try bench.tool.run("status").text
    #expect(text.contains("\n  DATED AHEAD   2 snapshots, s2 by 3 d\n"), "\(text)")
    let metrics = try bench.tool.run("status", "--openmetrics").text
    #expect(
      metrics.contains(
        "vmckpt_snapshots_dated_ahead{store=\"\(bench.storePath)\",vm=\"web\"} 2\n"
      )
    )
  }

  @Test("a monitoring system can read the metrics, whatever the store is called")
  func openMetrics() throws {
    let place = try bench.directory.subdirectory("a\"b\\c")
    let tool = try VMCkptTool(storePath: "\(place)/s.db")
    let source = try bench.write("x.ram", sampleRAM(40))
    try tool.succeed("save", source, "--vm", "web", "--name", "one")
    let text = String(
      decoding: try tool.run("status", "--openmetrics").standardOutput,
      as: UTF8.self
    )
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    #expect(lines.suffix(2) == ["# EOF", ""])
    var families = Set<Substring>()
    let sample = try Regex(
      #"^([a-z_]+)\{store="((?:[^"\\]|\\["\\n])*)"(?:,(?:vm|server)="[^"]*")?\} [0-9.]+$"#
    )
    for line in lines.dropLast(2) {
      let words = line.split(separator: " ", maxSplits: 3)
      if line.hasPrefix("#") {
        if words[1] == "TYPE" { #expect(families.insert(words[2]).inserted, "\(line)") }
        continue
      }
      let match = try #require(try sample.wholeMatch(in: line), "\(line)")
      #expect(families.contains(match[1].substring ?? ""), "\(line)")
    }
    let escaped = place.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
    #expect(text.contains("vmckpt_snapshots{store=\"\(escaped)/s.db\",vm=\"web\"} 1\n"))
    // Seconds since 1970, as the store's clock has them.
    let seconds = try #require(
      Double(
        try SQLiteShell("\(place)/s.db").run(
          "SELECT strftime('%s', completed_at) FROM snapshot"
        ).trimmingCharacters(in: .whitespacesAndNewlines)
      )
    )
    let line = try #require(lines.first { $0.hasPrefix("vmckpt_last_snapshot_timestamp_seconds{") })
    let shown = try #require(line.split(separator: " ").last.flatMap { Double($0) })
    #expect((seconds..<seconds + 1).contains(shown))
  }

  @Test(
    "two formats at once, and parts that cannot be, are usage errors",
    arguments: [
      ["status", "--json", "--openmetrics"], ["verify", "--part", "0/3"],
      ["verify", "--part", "4/3"],
      ["verify", "--part", "1/1001"], ["verify", "--part", "1"], ["verify", "--part", "1/3", "a"],
      ["verify", "--part", "next/0"],
    ]
  )
  func usage(_ arguments: [String]) throws {
    let outcome = try bench.tool.start(arguments).wait()
    #expect(outcome.ending == .exit(64), "\(outcome)")
  }
}
