import ArgumentParser
import Testing
import VMCheckpointCommands

@Suite struct HelpTests {
  static let expected: [String: String] = [
    "save": HelpTexts.save, "restore": HelpTexts.restore, "list": HelpTexts.list,
    "show": HelpTexts.show, "diff": HelpTexts.diff, "stats": HelpTexts.stats,
    "tag": HelpTexts.tag, "delete": HelpTexts.delete, "gc": HelpTexts.gc,
    "optimize": HelpTexts.optimize,
    "verify": HelpTexts.verify, "query": HelpTexts.query, "sql": HelpTexts.sql,
    "map": HelpTexts.map, "overlays": HelpTexts.overlays,
  ]

  @Test func theWholeTool() {
    #expect(VMCheckpointTool.helpMessage(columns: 80) == HelpTexts.root)
  }

  @Test(arguments: VMCheckpointTool.helpTexts)
  func everyCommand(verb: String, text: String) throws {
    #expect(text == Self.expected[verb])
  }

  @Test func noCommandIsForgotten() {
    #expect(Set(VMCheckpointTool.helpTexts.map(\.verb)) == Set(Self.expected.keys))
  }

  @Test(arguments: VMCheckpointTool.helpTexts)
  func linesFitEightyColumns(verb: String, text: String) {
    for line in text.split(separator: "\n") {
      #expect(line.count <= 80, "\(verb): \(line)")
    }
  }

  @Test(arguments: [["--help"], ["help"], ["-h"]])
  func helpIsAResult(arguments: [String]) throws {
    let run = try ToolRun(arguments, in: try WorkDirectory())
    #expect(run.output.hasPrefix("OVERVIEW: Keep checkpoints"))
    #expect(run.output.hasSuffix("\n"))
    #expect(run.errors == "")
    #expect(run.status == .exit(0))
  }

  @Test(arguments: [["save", "--help"], ["help", "save"], ["save", "x", "-h"]])
  func helpOfACommand(arguments: [String]) throws {
    let run = try ToolRun(arguments, in: try WorkDirectory())
    #expect(run.output.hasPrefix("OVERVIEW: Save a guest's RAM"))
    #expect(run.status == .exit(0))
  }
}
