import Foundation
import Testing
import VMCheckpointTestSupport

/// An installed `vmckpt` finds its extension, and shells and `man` find what is theirs.
@Suite struct InstallTests {
  private static let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Scripts/install").path

  /// Installs what the tests run below `prefix`.
  private func install(to prefix: String) throws -> ProcessOutcome {
    let binaries = URL(fileURLWithPath: try VMCkptTool.path()).deletingLastPathComponent().path
    return try run([Self.script, "--from", binaries, "--prefix", prefix])
  }

  @Test func theInstalledCommandReadsAGuestsMemory() throws {
    let bench = try Workbench()
    let ram = sampleRAM(8)
    try bench.save("a", ram)
    let prefix = bench.directory.file("prefix")
    let installed = try install(to: prefix)
    try #require(installed.succeeded, "\(installed)")

    let query = "SELECT hex(page_data('a', 1))"
    let outcome = try run(["\(prefix)/bin/vmckpt", "sql", query, "--store", bench.storePath])
    let expected = ram[4096..<8192].map { String(format: "%02X", $0) }.joined()
    #expect(outcome.text == expected + "\n", "\(outcome)")
  }

  @Test func everyCommandHasAPageAndEveryShellItsCompletions() throws {
    let directory = try TemporaryDirectory()
    let prefix = directory.file("prefix")
    let installed = try install(to: prefix)
    try #require(installed.succeeded, "\(installed)")

    let manual = "\(prefix)/share/man/man1"
    let pages = directoryEntries(manual)
    for name in ["vmckpt.1", "vmckpt-save.1", "vmckpt-restore.1", "vmckpt-sql.1", "vmckpt-gc.1"] {
      #expect(pages.contains(name), "\(pages)")
    }
    for page in pages {
      let text = String(decoding: try readFile("\(manual)/\(page)"), as: UTF8.self)
      for heading in [".SH NAME\n", ".SH SYNOPSIS\n", ".SH DESCRIPTION\n", ".SH OPTIONS\n"] {
        #expect(text.contains(heading), "\(page)")
      }
    }
    // To troff a line that begins so is a macro, and what it does not know it leaves out.
    let save = String(decoding: try readFile("\(manual)/vmckpt-save.1"), as: UTF8.self)
    #expect(save.contains("\n\\&'propolis:PATH' is a snapshot"))

    for completions in [
      "bash-completion/completions/vmckpt", "zsh/site-functions/_vmckpt",
      "fish/vendor_completions.d/vmckpt.fish",
    ] {
      let text = String(decoding: try readFile("\(prefix)/share/\(completions)"), as: UTF8.self)
      #expect(text.contains("qemu-machine"), "\(completions)")
    }
  }

  @Test(arguments: [["--prefix"], ["now"], ["--prefix", ""]])
  func aCommandLineThatMakesNoSense(arguments: [String]) throws {
    let outcome = try run([Self.script] + arguments)
    #expect(outcome.ending == .exit(64), "\(outcome)")
  }

  @Test func withoutBinariesNothingIsInstalled() throws {
    let directory = try TemporaryDirectory()
    let prefix = directory.file("prefix")
    let outcome = try run([Self.script, "--from", directory.path, "--prefix", prefix])
    #expect(outcome.ending == .exit(69), "\(outcome)")
    #expect(!exists(prefix))
  }
}
