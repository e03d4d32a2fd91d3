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

  /// A dump of a guest with 16 MiB of RAM, whose firmware runs, from a tar of real ones.
  static func dump(_ name: String) throws -> [UInt8] {
    let outcome = try run(
      ["/bin/sh", "-c", "zstd -dcq \"$0\" | tar -xO \"$1\"", path("dumps-16mib.tar.zst"), name]
    )
    guard outcome.succeeded, !outcome.standardOutput.isEmpty else {
      throw TestSetupError("tar must succeed: \(outcome)")
    }
    return outcome.standardOutput
  }

  /// The SHA-256 of that guest's RAM, its first 16 MiB, and of its firmware, the 256 KiB below 4 GiB.
  static let ramSHA256 = "02162da719d5c138c1d6b8ac4f794b2312c718d6acef98be5d00e1cb4b1b1d9f"
  static let firmwareSHA256 = "fc6d2ea888862e6b26d53fb877ab712324726eb8f44eb6baf076c64a31f1c3fb"

  /// The SHA-256 of some bytes.
  static func sha256(_ bytes: some Sequence<UInt8>, in bench: Workbench) throws -> String {
    let path = bench.directory.file("hashed")
    try writeFile(path, Array(bytes))
    defer { unlink(path) }
    return String(try run(["/usr/bin/sha256sum", path]).text.prefix(64))
  }
}
