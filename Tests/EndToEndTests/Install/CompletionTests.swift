import Testing
import VMCheckpointTestSupport

/// What bash offers after a tabulator, by the script that is installed.
@Suite struct CompletionTests {
  private let bench: Workbench
  private let script: String

  init() throws {
    bench = try Workbench()
    script = bench.directory.file("vmckpt.bash")
    let made = try run([try VMCkptTool.path(), "--generate-completion-script", "bash"])
    try #require(made.succeeded, "\(made)")
    try writeFile(script, made.standardOutput)
  }

  /// The offers for the last of `words`, as bash has them.
  private func offers(_ words: String...) throws -> [String] {
    let binary = try VMCkptTool.path()
    let folder = binary.split(separator: "/").dropLast().joined(separator: "/")
    let program = """
      PATH=/$1:$PATH; source "$2"; shift 2
      COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
      _vmckpt; printf '%s\\n' "${COMPREPLY[@]}"
      """
    let outcome = try run(
      ["/usr/bin/env", "bash", "-c", program, "bash", folder, script, "vmckpt"] + words
    )
    #expect(outcome.succeeded, "\(outcome)")
    return outcome.text.split(separator: "\n").map(String.init)
  }

  @Test("names of snapshots are offered where a snapshot is named, and only those that fit")
  func snapshots() throws {
    let ram = sampleRAM(8)
    try bench.save("web/1", ram)
    try bench.save("db/1", ram)
    let store = ["--store", bench.storePath]
    #expect(try offers("show", store[0], store[1], "") == ["latest", "db/1", "web/1"])
    #expect(try offers("restore", "--store=\(bench.storePath)", "w") == ["web/1"])
    #expect(try offers("diff", store[0], store[1], "web/1", "d") == ["db/1"])
  }

  @Test("without a store nothing is offered, and nothing is printed")
  func noStore() throws {
    #expect(try offers("show", "--store", bench.directory.file("none.db"), "") == [])
    #expect(!exists(bench.directory.file("none.db")))
  }

  @Test("a name that a stranger's store has and no name can be is not put before the shell")
  func hostileName() throws {
    try bench.save("good", sampleRAM(8))
    _ = try SQLiteShell(bench.storePath).run(
      "UPDATE snapshot SET name = 'x' || char(10) || 'y'"
    )
    #expect(try offers("show", "--store", bench.storePath, "") == ["latest"])
  }
}
