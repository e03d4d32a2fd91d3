import Foundation
import Testing
import VMCheckpointTestSupport

/// A user who is told that records were found, while somebody wrote them down, trusts the wrong ones.
@Suite struct OverlayOriginTests {
  private let bench: Workbench
  private let stream: String

  init() throws {
    bench = try Workbench()
    stream = try bench.write("stream", QEMUHyperVGuest.synthetic.stream())
  }

  /// Overlays are the same ones whether they were found or described: the digest says so.
  @Test func theOriginIsNotPartOfTheGuest() throws {
    try bench.tool.succeed("save", stream, "--name", "found")
    let document = bench.directory.file("found.json")
    try bench.tool.succeed(
      "restore",
      "found",
      "-o",
      bench.directory.file("bare"),
      "--overlays",
      "omit",
      "--overlays-out",
      document
    )
    expectSuccess(
      try bench.tool.run("save", stream, "--name", "given", "--overlays", document)
    )
    let shown = try ["found", "given"].map { try bench.tool.json("show", $0) }
    #expect(
      shown.map { $0["overlay_origin"] as? String } == ["qemu-device-state", "overlays-json"]
    )
    #expect(shown[0]["digest"] as? String == shown[1]["digest"] as? String)
    #expect(try bench.tool.json("diff", "found", "given")["identical"] as? Bool == true)
    #expect(try bench.sql.run("SELECT name, required FROM feature") == "overlay-origins|writer")
  }

  @Test func deletedSnapshotsLeaveNoOrigin() throws {
    for name in ["a", "b"] { try bench.tool.succeed("save", stream, "--name", name) }
    try bench.tool.succeed("delete", "a")
    #expect(try bench.sql.run("SELECT snapshot_id FROM overlay_origin") == "2")
    #expect(try bench.tool.verify().succeeded)
    try bench.sql.run("PRAGMA foreign_keys = OFF; DELETE FROM snapshot WHERE id = 2")
    #expect(try bench.tool.verify().text.contains("overlay_origin"))
  }

  @Test func aTableThatIsNotTheFormatsIsNoticed() throws {
    try bench.tool.succeed("save", stream, "--name", "a")
    try bench.sql.run("ALTER TABLE overlay_origin ADD COLUMN note TEXT")
    let outcome = try bench.tool.verify()
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.text.contains("table overlay_origin"), "\(outcome)")
  }

  @Test(arguments: ["DROP TABLE overlay_origin", "DELETE FROM feature"])
  func aLostFeatureIsNamedWhenItIsNeeded(edit: String) throws {
    try bench.tool.succeed("save", stream, "--name", "a")
    try bench.sql.run(edit)
    let outcome = try bench.tool.run("save", stream, "--name", "b")
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.contains("overlay_origin"), "\(outcome)")
  }

  /// A store may be hostile, and a terminal does what it is told.
  @Test func anOriginCannotWriteToTheTerminal() throws {
    try bench.tool.succeed("save", stream, "--name", "a")
    try bench.sql.run("UPDATE overlay_origin SET origin = 'x' || char(27) || '[2J' || char(10)")
    let outcome = try bench.tool.run("show", "a")
    #expect(outcome.succeeded && !outcome.text.contains("\u{1b}"), "\(outcome)")
    #expect(outcome.text.contains("\nOverlays, from x"), "\(outcome)")
  }
}
