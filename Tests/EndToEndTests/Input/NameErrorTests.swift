import Glibc
import Testing
import VMCheckpointTestSupport

@Suite struct NameErrorTests {
  private let bench: Workbench
  private let ram = sampleRAM(20)
  private let source: String

  init() throws {
    bench = try Workbench()
    try bench.save("web/before", ram)
    source = try bench.write("a.ram", sampleRAM(10, seed: 2))
  }

  /// The store must be as it was.
  private func expectUnchanged() throws {
    try expectSound(bench, [("web/before", ram)], "after a refusal")
  }

  @Test func aNameInUseIsRefused() throws {
    expectFailure(
      try bench.tool.run("save", source, "--name", "web/before"),
      73,
      "there is a snapshot \"web/before\" already; choose another --name, or delete it first"
    )
    try expectUnchanged()
  }

  @Test(
    .slow,
    arguments: [
      ("a\nb", "a\\u{a}b"), ("a\u{1b}[31m", "a\\u{1b}[31m"), ("", ""), ("a b", "a b"),
      ("ä", "ä"), ("a\u{7f}", "a\\u{7f}"),
    ]
  )
  func aNameWithOtherCharactersIsRefusedAndNotPrintedRaw(name: String, shown: String) throws {
    expectFailure(
      try bench.tool.run("save", source, "--name", name),
      64,
      "invalid snapshot name \"\(shown)\"; "
        + "a snapshot name has 1 to 255 letters, digits and ._-/:@+"
    )
    try expectUnchanged()
  }

  @Test func aNameThatIsTooLongIsRefused() throws {
    let outcome = try bench.tool.run(
      "save",
      source,
      "--name",
      String(repeating: "a", count: 256)
    )
    #expect(outcome.ending == .exit(64))
    #expect(outcome.standardError.hasSuffix("has 1 to 255 letters, digits and ._-/:@+\n"))
    #expect(outcome.standardError.split(separator: "\n").count == 1)
    try bench.tool.succeed("save", source, "--name", String(repeating: "a", count: 255))
  }

  @Test func latestIsNoName() throws {
    expectFailure(
      try bench.tool.run("save", source, "--name", "latest"),
      64,
      "\"latest\" stands for the newest snapshot and cannot be a name; choose another --name"
    )
    try expectUnchanged()
  }

  @Test func aMissingSnapshotIsAnsweredWithNearNames() throws {
    try bench.save("web/before2", ram)
    let target = bench.directory.file("out.ram")
    expectFailure(
      try bench.tool.run("restore", "web/befor", "-o", target),
      66,
      "there is no snapshot \"web/befor\"; did you mean \"web/before\" or \"web/before2\"?"
    )
    expectFailure(
      try bench.tool.run("restore", "entirely-different", "-o", target),
      66,
      "there is no snapshot \"entirely-different\"; see all with: vmckpt list"
    )
    expectFailure(
      try bench.tool.run("restore", "latest~2", "-o", target),
      66,
      "snapshot \"latest\" has 0 parents, not 2; see them with: vmckpt list"
    )
    #expect(!exists(target))
    for arguments in [
      ["show", "nope"], ["delete", "web/before", "nope"], ["tag", "nope", "k=v"],
      ["verify", "nope"], ["diff", "web/before", "nope"], ["save", source, "--parent", "nope"],
    ] {
      let outcome = try bench.tool.start(arguments).wait()
      expectFailure(outcome, 66, "there is no snapshot \"nope\"; see all with: vmckpt list")
    }
    #expect(try bench.tool.snapshotNames() == ["web/before", "web/before2"])
  }

  @Test func aTargetThatExistsIsNotOverwritten() throws {
    let target = try bench.write("out.ram", "precious")
    let overlays = try bench.write("out.json", "precious")
    let fresh = bench.directory.file("fresh.ram")
    let before = bench.directory.entries
    func refusal(_ path: String) -> String {
      "\"\(path)\" exists already; give another path, or --force to replace it"
    }
    expectFailure(
      try bench.tool.run("restore", "web/before", "-o", target),
      73,
      refusal(target)
    )
    expectFailure(
      try bench.tool.run("restore", "web/before", "-o", fresh, "--overlays-out", overlays),
      73,
      refusal(overlays)
    )
    #expect(bench.directory.entries == before)
    #expect(try readFile(target) == Array("precious".utf8))
    #expect(try readFile(overlays) == Array("precious".utf8))
    try bench.tool.succeed(
      "restore",
      "web/before",
      "-o",
      target,
      "--overlays-out",
      overlays,
      "--force"
    )
    #expect(try readFile(target) == ram)
    #expect(bench.directory.entries == before)
  }

  @Test(arguments: ["/dev/null", "/tmp", "/nonexistent/out.ram", "/proc/1/out.ram"])
  func aTargetThatCannotBeMadeIsRefused(target: String) throws {
    let outcome = try bench.tool.run("restore", "web/before", "-o", target, "--force")
    #expect([.exit(73), .exit(77)].contains(outcome.ending), "\(outcome)")
    #expect(outcome.standardError.hasPrefix("vmckpt: cannot create \"\(target)\": "))
    #expect(outcome.standardError.split(separator: "\n").count == 1)
  }

  @Test(arguments: ["", "-journal", "-lock"])
  func theStoreItselfIsNotOverwrittenByARestore(suffix: String) throws {
    let path = bench.storePath + suffix
    let message = "cannot create \"\(path)\": it belongs to the store; give another path"
    expectFailure(
      try bench.tool.run("restore", "web/before", "-o", path, "--force"),
      73,
      message
    )
    expectFailure(
      try bench.tool.run("restore", "web/before", "-o", "-", "--overlays-out", path, "--force"),
      73,
      message
    )
    let link = bench.directory.file("link")
    symlink(path, link)
    expectFailure(
      try bench.tool.run("restore", "web/before", "-o", link, "--force"),
      73,
      "cannot create \"\(link)\": it belongs to the store; give another path"
    )
    try expectUnchanged()
  }

  @Test func failuresAsJSONAreOneObjectOnStandardError() throws {
    let outcome = try bench.tool.run("show", "nope", "--json")
    #expect(outcome.ending == .exit(66))
    #expect(outcome.text == "")
    #expect(
      outcome.standardError
        == #"{"error":{"code":"not-found","exit_code":66,"hint":"see all with: vmckpt list","#
        + #""message":"there is no snapshot \"nope\""}}"# + "\n"
    )
  }
}
