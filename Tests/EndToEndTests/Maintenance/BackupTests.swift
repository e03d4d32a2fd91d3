import Glibc
import Testing
import VMCheckpointTestSupport

/// `vmckpt backup`: a copy is whole, of one moment, and never in anybody's way.
@Suite struct BackupTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  private func copied(_ name: String = "copy.db") throws -> VMCkptTool {
    try VMCkptTool(storePath: bench.directory.file(name))
  }

  @Test("a copy holds all snapshots, verifies, and is a store that can be saved into")
  func backup() throws {
    let (first, second) = (sampleRAM(300), sampleRAM(300, seed: 2))
    try bench.save("first", first, "--tag", "a=b")
    try bench.save("second", second)
    let path = bench.directory.file("copy.db")
    let outcome = try bench.tool.json("backup", path, "--verify")
    #expect(outcome["snapshots"] as? Int == 2 && outcome["verified"] as? Bool == true)
    #expect(outcome["copy"] as? String == path)
    #expect(try outcome["file_bytes"] as? Int == Int(fileSize(path).byteCount))
    #expect(try fileMode(path) & 0o777 == 0o600)

    let copy = try copied()
    #expect(try copy.restored("first", in: bench.directory) == first)
    #expect(try copy.restored("second", in: bench.directory) == second)
    try copy.succeed("delete", "first")
    try copy.succeed("save", bench.write("more.ram", sampleRAM(20, seed: 3)), "--name", "third")
    #expect(try copy.verify().succeeded)
    #expect(try bench.tool.snapshotNames() == ["first", "second"], "the store is as it was")
    #expect(!bench.directory.entries.contains { $0.hasPrefix(".") }, "\(bench.directory.entries)")
  }

  @Test("a copy replaces nothing, and no part of a store")
  func nothingIsReplaced() throws {
    try bench.save("first", sampleRAM(10))
    let taken = try bench.write("taken", "somebody's")
    for path in [taken, bench.storePath, bench.directory.path] {
      let outcome = try bench.tool.run("backup", path)
      #expect(outcome.ending == .exit(73), "\(outcome)")
    }
    #expect(try readFile(taken) == Array("somebody's".utf8))
    #expect(try bench.tool.verify().succeeded)
    #expect(
      !bench.directory.entries.contains { $0.hasSuffix(".new") },
      "\(bench.directory.entries)"
    )
  }

  @Test("a copy of a store that is served protects nothing: nobody is served from it")
  func leasesStay() throws {
    try bench.save("first", sampleRAM(50))
    let server = try ServeTool(bench, "first", "--json")
    try waitUntil("there is a lease") {
      try bench.sql.integer("SELECT count(*) FROM sqlite_schema WHERE name = 'lease'") == 1
        && bench.sql.integer("SELECT count(*) FROM lease") == 1
    }
    try bench.tool.succeed("backup", bench.directory.file("copy.db"))
    #expect(try copied().json("lease", "list")["leases"] as? [[String: String]] == [])
    try copied().succeed("delete", "first")
    _ = try server.end()
    #expect(try bench.tool.snapshotNames() == ["first"])
  }

  @Test("a damaged store gives no copy that was called verified")
  func aDamagedStoreIsNoticed() throws {
    try bench.save("first", incompressibleRAM(50))
    try bench.sql.run("UPDATE chunk_data SET data = zeroblob(length(data)) WHERE chunk_id = 1")
    let outcome = try bench.tool.run("backup", bench.directory.file("copy.db"), "--verify")
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.split(separator: "\n").count == 1, "\(outcome)")
    #expect(!bench.directory.entries.contains("copy.db"))
    // It is still worth having.
    #expect(try bench.tool.run("backup", bench.directory.file("copy.db")).succeeded)
  }

  /// Each commit makes SQLite begin anew. So a copy may never end.
  @Test("copies that are made while others save are whole")
  func savesGoOn() throws {
    let ram = incompressibleRAM(6000)
    try bench.save("base", ram)
    let source = try bench.write("next.ram", incompressibleRAM(4000, seed: 9))
    let script = """
      i=0; while [ ! -e "$1" ]; do
        "$2" save "$3" --store "$4" --name "s$i" --wait 250 >/dev/null || exit 1
        "$2" tag "s$i" x=y --store "$4" --wait 250 >/dev/null || exit 1
        "$2" delete "s$i" --store "$4" --wait 250 >/dev/null || exit 1
        i=$((i + 1))
      done
      """
    let stop = bench.directory.file("stop")
    let saver = try ChildProcess(
      ["/bin/sh", "-c", script, "sh", stop, VMCkptTool.path(), source, bench.storePath]
    )
    for number in 0..<4 {
      let path = bench.directory.file("copy\(number).db")
      let outcome = try bench.tool.run("backup", path, "--verify", "--wait", "250")
      #expect(outcome.succeeded, "\(outcome)")
      #expect(try copied("copy\(number).db").restored("base", in: bench.directory) == ram)
    }
    try writeFile(stop, "")
    let saved = try saver.wait()
    #expect(saved.succeeded, "\(saved)")
    #expect(try bench.tool.verify().succeeded)
  }

  @Test("a killed copy leaves no file that looks like one")
  func killed() throws {
    try bench.save("base", incompressibleRAM(8000))
    for round in 0..<8 {
      let path = bench.directory.file("copy\(round).db")
      let process = try bench.tool.start(["backup", path])
      usleep(UInt32(round * 7_000))
      process.send(SIGKILL)
      _ = try process.wait()
      guard access(path, F_OK) == 0 else { continue }
      #expect(try copied("copy\(round).db").verify().succeeded)
    }
    #expect(try bench.tool.verify().succeeded)
  }
}
