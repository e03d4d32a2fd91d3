import Testing
import VMCheckpointCommands
import VMCheckpointProbes

/// Every command on a real store.
@Suite struct StoreCommandTests {
  private let directory: WorkDirectory
  private let overlays: String

  /// A store with the snapshots g/1, with an overlay and a tag, and g/2.
  init() throws {
    directory = try WorkDirectory()
    overlays = try directory.write(
      Array(
        """
        {"format": 1, "guest_os_id": 1,
         "overlays": [{"kind": "hypercall", "pfn": 2, "variant": "vmcall"}]}
        """.utf8
      ),
      to: "overlays.json"
    )
    let first = try directory.writeRAM([1, 2, 3, 4, 0, 0, 0, 0], to: "1.ram")
    let second = try directory.writeRAM([1, 9, 3, 0, 5, 0, 0, 0], to: "2.ram")
    try run(
      "save",
      first,
      "--vm",
      "g",
      "--name",
      "g/1",
      "--overlays",
      overlays,
      "--tag",
      "k=v"
    )
    try run("save", second, "--vm", "g", "--name", "g/2")
  }

  @discardableResult
  private func run(_ arguments: String..., expecting code: Int32 = 0) throws -> ToolRun {
    let run = try ToolRun(arguments, in: directory)
    #expect(run.code == code, "\(run.errors)")
    return run
  }

  @Test func save() throws {
    let ram = try directory.writeRAM([7], to: "3.ram")
    let run = try run("save", ram, "--vm", "g", "--name", "g/3", "--json")
    #expect(run.output.contains("\"name\": \"g/3\""))
    #expect(run.output.contains("\"parent\": \"g/2\""))
    #expect(run.output.contains("\"new_pages\": 1,"))
    #expect(run.errors == "")
  }

  @Test func saveFromStandardInput() throws {
    let bytes = try directory.read("1.ram")
    let run = try ToolRun(
      ["save", "-", "--name", "piped", "--no-parent"],
      in: directory,
      input: bytes
    )
    #expect(run.code == 0)
    #expect(run.output.contains("  Parent         -\n"))
    #expect(run.output.contains("  New            0 B in 0 pages"))
  }

  @Test func saveWithOverlaysFromStandardInput() throws {
    let json = Array(#"{"format": 1, "overlays": [{"kind": "hypercall", "pfn": 1}]}"#.utf8)
    let run = try ToolRun(
      ["save", directory.file("1.ram"), "--overlays", "-"],
      in: directory,
      input: json
    )
    #expect(run.code == 65)
    #expect(run.errors.hasPrefix("vmckpt: overlays from standard input: overlays[0]"))
  }

  @Test func aMistakeInOverlaysNamesFileAndPlace() throws {
    let path = try directory.write(
      Array(#"{"format": 1, "overlays": [{"kind": "reference-tsc", "pfn": "zero"}]}"#.utf8),
      to: "bad.json"
    )
    let run = try run("save", directory.file("1.ram"), "--overlays", path, expecting: 65)
    #expect(run.errors.hasPrefix("vmckpt: overlays file \"\(path)\": overlays[0].pfn"))
    try self.run(
      "save",
      directory.file("1.ram"),
      "--overlays",
      directory.file("none"),
      expecting: 66
    )
  }

  @Test func restoreBareAndSaveAgain() throws {
    let out = directory.file("out.ram")
    let described = directory.file("out.json")
    let restored = try run(
      "restore",
      "g/1",
      "-o",
      out,
      "--overlays",
      "omit",
      "--overlays-out",
      described,
      "--verify"
    )
    #expect(restored.output.hasPrefix("Restored g/1 to \(out) in "))
    #expect(restored.output.contains("  Described in  \(described)\n"))
    #expect(try directory.read("out.ram") == directory.read("1.ram"))

    try run("save", out, "--vm", "g", "--name", "again", "--overlays", described)
    #expect(
      try run("diff", "g/1", "again").output
        == "g/1 and again hold the same RAM, overlays and device state\n"
    )
  }

  @Test func restoreRefusesToOverwrite() throws {
    let target = directory.file("1.ram")
    let refused = try run("restore", "g/2", "-o", target, "--json", expecting: 73)
    #expect(refused.errors.hasPrefix(#"{"error":{"code":"cannot-create","exit_code":73,"#))
    #expect(refused.output == "")
    try run("restore", "g/2", "-o", target, "--force")
    #expect(try directory.read("1.ram") == directory.read("2.ram"))
  }

  @Test(arguments: [false, true])
  func restoreToStandardOutputReportsOnStandardError(json: Bool) throws {
    let path = directory.file("streamed")
    let run = try ToolRun(
      ["restore", "g/2", "-o", "-"] + (json ? ["--json"] : []),
      in: directory,
      outputPath: path
    )
    #expect(run.code == 0)
    #expect(try directory.read("streamed") == directory.read("2.ram"))
    #expect(run.errors.hasPrefix(json ? "{\n" : "Restored g/2 to standard output in "))
  }

  @Test func list() throws {
    let lines = try run("list").output.split(separator: "\n")
    #expect(lines.count == 3)
    #expect(lines[1].hasPrefix("g/1   g   -       2"))
    #expect(lines[1].hasSuffix("  k=v"))
    #expect(lines[2].hasPrefix("g/2   g   g/1     2"))
    #expect(try run("list", "--tag", "k=v").output.split(separator: "\n").count == 2)

    let none = try run("list", "--vm", "other")
    #expect(none.output == "")
    #expect(
      none.errors == "vmckpt: no snapshot in \"\(directory.file("store.db"))\" matches\n"
    )
  }

  /// `show`'s overlays are a file that `save` takes.
  @Test func show() throws {
    let text = try run("show", "g/1").output
    #expect(text.hasPrefix("g/1\n"))
    #expect(text.contains("  Children       g/2\n"))
    #expect(text.contains("  0x2  hypercall   -  variant=vmcall\n"))

    let json = try run("show", "g/1", "--json").output
    #expect(try RenderedResult(showing: json).json == json)
    let start = try #require(json.firstRange(of: "\"overlays\": "))
    let end = try #require(json.firstRange(of: "\n  },\n  \"parent\""))
    let overlays = try directory.write(
      Array("\(json[start.upperBound..<end.lowerBound])\n}".utf8),
      to: "shown.json"
    )
    try run("save", directory.file("1.ram"), "--name", "again", "--overlays", overlays)
    #expect(try run("diff", "g/1", "again", "--json").output.contains("\"identical\": true"))
  }

  @Test func diff() throws {
    #expect(
      try run("diff", "g/1", "g/2").output == """
        What g/2 has different from g/1
          PAGES      COUNT     SIZE
          added          1  4.0 KiB
          zeroed         1  4.0 KiB
          changed        1  4.0 KiB
          unchanged      2  8.0 KiB

        Guest OS ID
          0x0000000000000001 before, unknown now

        Overlays
          - 0x2 hypercall

        Added PFNs
          0x4  1 page

        Zeroed PFNs
          0x3  1 page

        Changed PFNs
          0x1  1 page

        """
    )
    let limited = try run("diff", "g/1", "latest", "--limit", "0").output
    #expect(limited.contains("\nAdded PFNs\n  1 range (--limit all)\n"))
  }

  @Test func tag() throws {
    #expect(try run("tag", "g/1", "a=1", "--remove", "k").output == "g/1: a=1\n")
    #expect(try run("tag", "g/1", "--remove", "a").output == "g/1: no tags\n")
  }

  @Test func deleteAndCollect() throws {
    let deleted = try run("delete", "g/1", "g/2")
    #expect(deleted.output.hasPrefix("Deleted g/1\nDeleted g/2\nFreed\n"))
    #expect(try run("gc", "--dry-run").output.hasPrefix("Would free\n  Unfinished  0 snapshots\n"))
    #expect(try run("gc", "--json").output.contains("\"dry_run\": false"))
    #expect(
      try run("list").errors
        == "vmckpt: no snapshots in \"\(directory.file("store.db"))\"\n"
    )
  }

  @Test func deleteOfAMissingSnapshotDeletesNothing() throws {
    let run = try run("delete", "g/1", "g/9", expecting: 66)
    #expect(run.errors.contains("g/9"))
    #expect(try self.run("list").output.split(separator: "\n").count == 3)
  }

  @Test func verify() throws {
    #expect(try run("verify").output.hasPrefix("Sound\nChecked 2 snapshots, "))
    #expect(try run("verify", "g/1", "--json").output.contains("\"sound\": true"))
  }

  @Test func stats() throws {
    #expect(try run("stats").output.contains("  Snapshots      2 of 1 VM\n"))
  }

  @Test(arguments: [
    ["show", "nope"], ["diff", "nope", "latest"], ["tag", "nope", "a=b"], ["delete", "nope"],
    ["verify", "nope"], ["restore", "nope", "-o", "/nonexistent/x"], ["save", "/nonexistent/x"],
    ["show", "g/1~1"],
  ])
  func whatIsMissingIsNotFound(arguments: [String]) throws {
    let run = try ToolRun(arguments, in: directory)
    #expect(run.status == .exit(66))
    #expect(run.errors.hasPrefix("vmckpt: "))
    #expect(run.errors.split(separator: "\n").count == 1)
    #expect(run.output == "")
  }

  @Test(arguments: [
    ["list"], ["show", "x"], ["diff", "x", "y"], ["tag", "x", "a=b"], ["delete", "x"],
    ["prune", "--keep-last", "1"], ["prune", "--keep-last", "1", "--dry-run"], ["gc"],
    ["verify"], ["stats"], ["restore", "x", "-o", "y"],
  ])
  func onlySaveMakesAStore(arguments: [String]) throws {
    let empty = try WorkDirectory()
    let run = try ToolRun(arguments + ["--json"], in: empty)
    #expect(run.status == .exit(66))
    #expect(run.errors.hasPrefix(#"{"error":{"code":"not-found","exit_code":66,"#))
    #expect(throws: (any Error).self) { try empty.read("store.db") }
  }

  @Test func aFileThatIsNoStoreIsInvalid() throws {
    let run = try run("list", "--store", directory.file("1.ram"), expecting: 65)
    #expect(run.errors.contains("1.ram"))
  }
}
