import Foundation
import Testing
import VMCheckpointTestSupport

/// A real guest's log: as people ask for it, of two boots, and damaged.
@Suite(.serialized, .guest) struct GuestLogTests {
  private let bench: Workbench
  private let guest: GuestImages

  init() throws {
    guest = try GuestImages()
    bench = try Workbench()
    for (name, path) in zip(["one", "two"], guest.moments) {
      try bench.tool.succeed("save", path, "--vm", "guest", "--name", name)
    }
  }

  /// Saves the second moment with other bytes at a guest-physical address.
  private func save(_ name: String, _ damage: (inout [UInt8]) -> Void) throws {
    var ram = try readFile(guest.moments[1])
    damage(&ram)
    try bench.tool.succeed("save", try bench.write("\(name).ram", ram), "--name", name)
  }

  private func place(_ symbol: String) throws -> Int {
    let shell = ExtensionShell(bench.storePath)
    let gpa = try shell.run("SELECT gpa FROM guest_symbol('two') WHERE name = '\(symbol)';")
    return try #require(Int(gpa), "\(symbol)")
  }

  @Test func timesLevelsAndFacilitiesAreShownAsDmesgDoes() throws {
    func lines(_ arguments: String...) throws -> [Substring] {
      try bench.tool.start(["dmesg", "two"] + arguments).wait().text.split(separator: "\n")
    }
    let all = try lines()
    let bare = try lines("-t")
    #expect(bare.count == all.count && bare.first?.hasPrefix("Linux version ") == true)
    #expect(try lines("-x").first?.hasPrefix("kern  :notice: [    0.000000] Linux") == true)
    let some = try lines("-l", "err,warn,notice", "-x")
    #expect(!some.isEmpty && some.count < all.count)
    #expect(
      some.allSatisfy {
        $0.contains(":err   : ") || $0.contains(":warn  : ") || $0.contains(":notice: ")
      }
    )
    #expect(try bench.tool.run("dmesg", "two", "-l", "loud").ending == .exit(64))
  }

  @Test func recordsThatAreLostAreCounted() throws {
    let descriptors = try place("_printk_rb_static_descs")
    try save("descriptors") { ram in
      // 100 descriptors of 24 bytes, not the first ones.
      for index in (20 * 24)..<(120 * 24) { ram[descriptors + index] = 0 }
    }
    let outcome = try bench.tool.run("dmesg", "descriptors")
    #expect(
      outcome.succeeded && outcome.standardError.contains("100 of "),
      "\(outcome.standardError)"
    )
    let warnings = try bench.tool.json("dmesg", "descriptors")["warnings"] as? [String]
    #expect(warnings?.contains { $0.contains("records are missing") } == true)
    #expect(try bench.tool.run("query", "log", "descriptors").standardError.contains("guest_dmesg"))
    #expect(try bench.tool.run("dmesg", "two").standardError.isEmpty)
  }

  @Test func recordsThatCannotBeAreNotShown() throws {
    let infos = try place("_printk_rb_static_infos")
    try save("infos") { ram in
      // Numbers that no record at this place has.
      for index in 0..<50 { ram[infos + index * 88] ^= 0x55 }
    }
    let outcome = try bench.tool.run("dmesg", "-T", "infos")
    #expect(outcome.succeeded && outcome.standardError.contains("50 records could not be read"))
  }

  @Test func ofAnotherBootTheWholeLogIsNew() throws {
    let infos = try place("_printk_rb_static_infos")
    try save("again") { ram in
      // Some nanoseconds later, as no two boots are the same.
      for index in 0..<2000 where ram[infos + index * 88 + 8] != 0 {
        ram[infos + index * 88 + 8] ^= 1
      }
    }
    func rows(_ other: String) throws -> [[String: Any]] {
      let object = try bench.tool.json("query", "log-since", "one", other)
      return try #require(object["rows"] as? [[String: Any]])
    }
    let same = try rows("two")
    #expect(same.allSatisfy { $0["boot"] as? String == "same" })
    let another = try rows("again")
    #expect(another.allSatisfy { $0["boot"] as? String == "another" })
    let count = try #require(try bench.tool.json("dmesg", "again")["records"] as? [Any]).count
    #expect(another.count == count && same.count < count)
  }

  /// Each answer is right, or says that there is no such snapshot: never that there is no kernel.
  @Test func aSnapshotThatIsDeletedMeanwhileIsNotMisread() throws {
    let whole = try bench.tool.run("ps", "two", "-e").text
    for (round, microseconds) in [0, 50_000, 150_000, 300_000, 600_000].enumerated() {
      let name = "gone-\(round)"
      try bench.tool.succeed("save", guest.moments[1], "--name", name, "--no-parent")
      let asked = try bench.tool.start(["ps", name, "-e"])
      usleep(UInt32(microseconds))
      try bench.tool.succeed("delete", name)
      let outcome = try asked.wait()
      if outcome.succeeded {
        #expect(outcome.text == whole && outcome.standardError.isEmpty, "\(microseconds)")
      } else {
        #expect(outcome.standardError.contains("no snapshot"), "\(microseconds): \(outcome)")
      }
    }
  }
}
