import Foundation
import Testing
import VMCheckpointTestSupport

/// A sample that does not compile is the first thing that a user of the library meets.
@Suite struct ArticleSampleTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  private static let root = folder.deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// Every article, and the documents beside the sources.
  private static let documents: [URL] = {
    let articles = root.appendingPathComponent("Sources/VMCheckpoint/Documentation.docc")
    return directoryEntries(articles.path).filter { $0.hasSuffix(".md") }
      .map(articles.appendingPathComponent)
      + ["README.md", "CONTRIBUTING.md", "Schema/README.md"].map(root.appendingPathComponent)
  }()

  @Test func everySampleIsCompiled() throws {
    let samples = Self.withoutIndentation(
      try Self.text(of: Self.folder.appendingPathComponent("ArticleSamples.swift"))
    )
    var blockCount = 0
    for document in Self.documents {
      for block in Self.swiftBlocks(in: try Self.text(of: document)) {
        blockCount += 1
        #expect(
          samples.contains(Self.withoutIndentation(block)),
          "\(document.lastPathComponent): ArticleSamples.swift does not have this block:\n\(block)"
        )
      }
    }
    #expect(blockCount > 0)
  }

  private static func text(of file: URL) throws -> String {
    String(decoding: try readFile(file.path), as: UTF8.self)
  }

  /// The contents of the fenced blocks that name Swift.
  private static func swiftBlocks(in document: String) -> [String] {
    document.components(separatedBy: "\n```swift\n").dropFirst().map {
      $0.components(separatedBy: "\n```")[0]
    }
  }

  /// The text as it is without the function that `ArticleSamples.swift` puts around a block.
  private static func withoutIndentation(_ text: String) -> String {
    text.components(separatedBy: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
      .joined(separator: "\n")
  }
}
