import Foundation
import VMCheckpointTestSupport

/// Parts of real dumps beside the tests.
enum Fixture {
  static func path(_ name: String) -> String {
    URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures/\(name)").path
  }

  /// A file that is compressed with zstd.
  static func zstd(_ name: String) throws -> [UInt8] {
    let outcome = try run(["/usr/bin/zstd", "-dcq", path(name)])
    guard outcome.succeeded else { throw TestSetupError("zstd must succeed: \(outcome)") }
    return outcome.standardOutput
  }
}
