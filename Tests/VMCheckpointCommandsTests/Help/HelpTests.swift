import ArgumentParser
import Testing
import VMCheckpointCommands
import VMCheckpointProbes
import VMCheckpointTestSupport

@Suite struct HelpTests {
  /// The recorded text of a command; of the whole tool for `nil`. `Scripts/reference` records anew.
  private func recorded(_ verb: String?) throws -> String {
    let folder = #filePath.split(separator: "/").dropLast().joined(separator: "/")
    let bytes = try readFile("/\(folder)/Texts/\(verb ?? "vmckpt").txt")
    return String(decoding: bytes, as: UTF8.self)
  }

  @Test func theWholeTool() throws {
    #expect(try VMCheckpointTool.helpMessage(columns: 80) + "\n" == recorded(nil))
  }

  @Test(arguments: VMCheckpointTool.helpTexts)
  func everyCommand(verb: String, text: String) throws {
    #expect(try text + "\n" == recorded(verb))
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
