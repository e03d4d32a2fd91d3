import Foundation
import Testing
import VMCheckpointTestSupport

/// The queries that `Schema/README.md` shows run, and its table of functions is whole.
@Suite struct SchemaReadmeTests {
  private let text: String

  init() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    text = String(
      decoding: try readFile(root.appendingPathComponent("Schema/README.md").path),
      as: UTF8.self
    )
  }

  @Test func everyQueryRuns() throws {
    let blocks = text.components(separatedBy: "```sql\n").dropFirst().map {
      String($0.prefix(upTo: $0.range(of: "\n```")!.lowerBound))
    }
    #expect(blocks.count > 30)
    let bench = try Workbench()
    try bench.save("web/1", sampleRAM(64), "--vm", "web")
    try bench.save("web/2", sampleRAM(64, seed: 2), "--vm", "web")
    for block in blocks {
      let outcome = try ExtensionShell(bench.storePath).start(block)
      #expect(outcome.succeeded && outcome.standardError.isEmpty, "\(block)\n\(outcome)")
    }
  }

  @Test func everyFunctionIsDocumented() throws {
    let bench = try Workbench()
    try bench.save("a", sampleRAM(8))
    let calls = try ExtensionShell(bench.storePath).run("SELECT call FROM vmckpt_help;")
    for call in calls.split(separator: "\n") {
      #expect(text.contains("`\(call)`"), "\(call)")
    }
  }
}
