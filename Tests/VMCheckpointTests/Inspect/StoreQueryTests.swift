import Foundation
import Testing
import VMCheckpoint

@Suite struct StoreQueryTests {
  private static let directory = URL(filePath: #filePath)
    .deletingLastPathComponent().appending(path: "../../../Schema/queries").standardized

  @Test func noFileIsForgotten() throws {
    let files = try FileManager.default.contentsOfDirectory(atPath: Self.directory.path)
    #expect(Set(files) == Set(StoreQuery.all.map { "\($0.name).sql" }))
    for query in StoreQuery.all {
      let file = Self.directory.appending(path: "\(query.name).sql")
      #expect(query.sql == (try String(contentsOf: file, encoding: .utf8)))
    }
  }

  /// A parameter that the SQL uses and the header does not tell would be NULL.
  @Test(arguments: StoreQuery.all)
  func theHeaderTellsEveryParameter(query: StoreQuery) {
    let body = query.sql.split(separator: "\n").map { line in
      line.range(of: "--").map { line[..<$0.lowerBound] } ?? line
    }.joined(separator: "\n")
    let used = body.matches(of: /:([a-z_]+)/).map { String($0.output.1) }
    #expect(Set(used) == Set(query.parameters.map(\.name)))
    // So that what must be given can be given alone.
    let optional = query.parameters.drop { $0.defaultText == nil }
    #expect(optional.allSatisfy { $0.defaultText != nil })
    #expect(query.title.hasSuffix("."))
    #expect(query.title.count <= 100)
    for parameter in query.parameters { #expect(parameter.description.hasSuffix(".")) }
    #expect(query.sql.split(separator: "\n").allSatisfy { $0.count <= 100 })
  }
}
