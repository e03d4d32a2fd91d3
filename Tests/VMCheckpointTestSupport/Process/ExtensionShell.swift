import Foundation

/// The plain `sqlite3` shell with the built extension, on a store that it opens read-only.
package struct ExtensionShell {
  private let storePath: String
  /// Where kernels that were found are known; `nil`: nowhere.
  private let cacheHome: String?

  package init(_ storePath: String, cacheHome: String? = nil) {
    self.storePath = storePath
    self.cacheHome = cacheHome
  }

  /// The built extension, which stands beside `vmckpt`.
  package static func path() throws -> String {
    let directory = URL(fileURLWithPath: try VMCkptTool.path()).deletingLastPathComponent()
    let path = directory.appendingPathComponent("libvmckptext.so").path
    guard exists(path) else {
      throw TestSetupError("\(path) is missing; run the tests with Scripts/test")
    }
    return path
  }

  /// Runs SQL to its end, whatever comes of it. Only what the shell needs is in the environment:
  /// the extension must not lean on the toolchain's libraries.
  ///
  /// - Parameter isStopping: Whether the first error ends the shell.
  package func start(
    _ sql: String,
    timeoutSeconds: Double = patienceSeconds,
    isStopping: Bool = true
  ) throws -> ProcessOutcome {
    let scratch = try TemporaryDirectory()
    let script = scratch.file("script.sql")
    try writeFile(script, ".timeout 120000\n.load \(try Self.path())\n\(sql)\n")
    return try VMCheckpointTestSupport.run(
      ["/usr/bin/env", "-i"] + (cacheHome.map { ["XDG_CACHE_HOME=\($0)"] } ?? [])
        + ["/usr/bin/sqlite3", "-batch", "-readonly"]
        + (isStopping ? ["-bail", storePath] : [storePath]),
      input: .file(script),
      timeoutSeconds: timeoutSeconds
    )
  }

  /// Runs SQL that must succeed; returns what it prints, without the last newline.
  package func run(_ sql: String) throws -> String {
    let outcome = try start(sql)
    guard outcome.succeeded, outcome.standardError.isEmpty else {
      throw TestSetupError("sqlite3 failed: \(outcome)")
    }
    return outcome.text.last == "\n" ? String(outcome.text.dropLast()) : outcome.text
  }

  /// Runs SQL that must fail as a statement does, and not as a crash; returns the message.
  package func failure(_ sql: String) throws -> String {
    let outcome = try start(sql)
    guard outcome.ending == .exit(1), !outcome.standardError.isEmpty else {
      throw TestSetupError("this must fail: \(outcome)")
    }
    return outcome.standardError
  }
}

/// `bytes` as `hex()` of SQLite prints them.
package func hexText(_ bytes: some Sequence<UInt8>) -> String {
  let digits = Array("0123456789ABCDEF".utf8)
  var text: [UInt8] = []
  for byte in bytes {
    text.append(digits[Int(byte >> 4)])
    text.append(digits[Int(byte & 15)])
  }
  return String(decoding: text, as: UTF8.self)
}
