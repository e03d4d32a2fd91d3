import Foundation
import Testing
import VMCheckpointTestSupport

/// Guests whose kernel's memory is torn: every way to ask says that rows may be missing.
@Suite struct TornGuestTests {
  private let bench: Workbench
  private let shell: ExtensionShell

  init() throws {
    bench = try Workbench()
    shell = ExtensionShell(bench.storePath)
    var (torn, lost) = (SyntheticGuest(), SyntheticGuest())
    torn.tearList()
    lost.tearListTwice()
    for (name, guest) in [("whole", SyntheticGuest()), ("torn", torn), ("lost", lost)] {
      let ram = try bench.write("\(name).ram", guest.ram)
      try bench.tool.succeed("save", ram, "--name", name, "--no-parent")
    }
  }

  @Test func noConstraintHidesThatTheListIsTorn() throws {
    func ask(_ table: String, _ condition: String) throws -> String {
      try shell.run(
        "SELECT count(*), max(note) LIKE '%list of processes%' FROM guest_\(table)('lost') \(condition);"
      )
    }
    for table in ["process", "thread", "file", "mapping", "socket"] {
      // Process 3 is lost.
      for condition in ["WHERE pid = 3", "WHERE pid BETWEEN 3 AND 9", "WHERE pid > 2"] {
        #expect(try ask(table, condition) == "1|1", "\(table) \(condition)")
      }
      #expect(try ask(table, "").hasSuffix("|1"), "\(table)")
    }
    // Who was found is whole.
    #expect(try ask("process", "WHERE pid = 1") == "1|")
    #expect(
      try shell.run("SELECT count(*), max(note) FROM guest_process('whole') WHERE pid = 9;") == "0|"
    )
  }

  @Test func aListThatIsTornInOnePlaceHasAllProcesses() throws {
    let pids = try bench.tool.json("ps", "torn", "-e")
    #expect((pids["processes"] as? [[String: Any]])?.compactMap { $0["pid"] as? Int } == [1, 2, 3])
    let warnings = try #require(pids["warnings"] as? [String])
    #expect(warnings.count == 1 && warnings[0].contains("the list of processes"))
    let text = try bench.tool.run("ps", "torn")
    #expect(text.succeeded && text.standardError.contains("processes may be missing"))
    #expect(try bench.tool.run("ps", "whole").standardError.isEmpty)
  }

  @Test func aQuerySaysWhatItsTablesCouldNotRead() throws {
    let answer = try bench.tool.run("query", "processes-changed", "whole", "lost")
    #expect(answer.succeeded && answer.text.contains("ended"))
    #expect(answer.standardError.contains("guest_process of lost could not be read whole"))
    let object = try bench.tool.json("query", "processes-changed", "whole", "lost")
    let notes = try #require(object["notes"] as? [[String: Any]])
    #expect(notes.count == 1 && notes[0]["snapshot"] as? String == "lost")
    #expect((notes.first?["note"] as? String)?.contains("list of processes") == true)
    let whole = try bench.tool.run("query", "processes", "whole")
    #expect(whole.succeeded && whole.standardError.isEmpty)
    #expect(
      (try bench.tool.json("query", "processes", "whole")["notes"] as? [Any])?.isEmpty == true
    )
  }

  @Test func optionsThatPeopleKnowAreTaken() throws {
    func text(_ arguments: String...) throws -> String {
      let outcome = try bench.tool.start(["ps", "whole"] + arguments).wait()
      #expect(outcome.succeeded, "\(outcome)")
      return outcome.text
    }
    let all = try text("-e")
    #expect(try text("-A") == all)
    #expect(try text("aux") == text("-ef"))
    #expect(try text("-H") == text("--tree") && text("--forest") == text("--tree"))
    #expect(try text("--tree").contains(" init\n") && text("--tree", "-f").contains("--verbose"))
    let threads = try text("-eL").split(separator: "\n")
    #expect(threads[0].split(separator: " ") == ["PID", "LWP", "STATE", "COMMAND"])
    #expect(threads.count == 4)
    #expect(try bench.tool.run("ps", "whole", "-L", "--tree").ending == .exit(64))
  }

  /// Nothing is written, and so nothing is locked.
  @Test(.enabled(if: OtherUser.isThere, "not root, or no other user reaches the binary"))
  func aStoreThatCannotBeWrittenIsEnough() throws {
    chmod(bench.storePath, 0o444)
    for name in ["-lock", "-journal"] { unlink(bench.storePath + name) }
    chmod(bench.directory.path, 0o555)
    defer { chmod(bench.directory.path, 0o755) }
    for arguments in [["ps", "whole"], ["map", "whole", "--by", "owner"]] {
      let command = bench.tool.commandLine(arguments)
      let outcome = try run(OtherUser.commandLine(command))
      #expect(outcome.succeeded, "\(arguments): \(outcome)")
    }
  }
}
