import Foundation
import Testing
import VMCheckpointTestSupport

/// `vmckpt sql`: the sqlite3 shell on a store.
@Suite struct SQLTests {
  private let bench: Workbench

  init() throws {
    bench = try Workbench()
    try bench.save("web/1", sampleRAM(4), "--vm", "web")
    try bench.save("web/2", sampleRAM(5), "--vm", "web")
  }

  private func sql(_ arguments: String..., environment: [String: String] = [:]) throws
    -> ProcessOutcome
  {
    try run(
      bench.tool.commandLine(["sql"] + arguments),
      environment: environment
    )
  }

  @Test func aQueryRuns() throws {
    let names = try sql("SELECT name, vm FROM snapshot_summary")
    expectSuccess(names)
    #expect(names.text == "web/1|web\nweb/2|web\n")
    #expect(try sql("SELECT 1", "--json").text == "[{\"1\":1}]\n")
    #expect(try sql(".databases").text.contains(bench.storePath))
    // What begins like an option is a comment.
    let comment = try run([
      VMCkptTool.path(), "sql", "--store", bench.storePath, "--", "-- one\nSELECT 1",
    ])
    #expect(comment.text == "1\n")
  }

  /// A program that asked for JSON gets JSON, whoever found the mistake.
  @Test func withJSONWhatTheShellReportsIsAJSONError() throws {
    let outcome = try sql("SELECT nope FROM store", "--json")
    #expect(outcome.ending == .exit(1))
    #expect(outcome.standardOutput.isEmpty)
    let lines = outcome.standardError.split(separator: "\n")
    #expect(lines.count == 1)
    let object =
      try JSONSerialization.jsonObject(with: Data(lines[0].utf8)) as? [String: [String: Any]]
    let error = try #require(object?["error"])
    #expect(error["code"] as? String == "invalid-argument" && error["exit_code"] as? Int == 1)
    #expect(error["message"] as? String == "sqlite3: no such column: nope")
    // What was printed before the mistake stays, as in the shell.
    let script = try bench.write("script.sql", "SELECT 1;\nSELECT nope;\n")
    let second = try bench.tool.run("sql", "--json", input: .file(script))
    #expect(second.text == "[{\"1\":1}]\n")
    #expect(second.standardError.contains("no such column"))
    #expect(try run([VMCkptTool.path(), "--version", "--json"]).jsonObject()["version"] is String)
  }

  @Test func standardInputIsAScript() throws {
    let script = try bench.write("script.sql", "SELECT 1;\nSELECT :snapshot;\n")
    let outcome = try bench.tool.run("sql", "web/1", input: .file(script))
    expectSuccess(outcome)
    #expect(outcome.text == "1\nweb/1\n")
  }

  /// The shell loses what a pipe does not take at once, and ends with 0.
  @Test func aPipeThatDoesNotBlockLosesNothing() throws {
    let pipe = try ChildPipe()
    let flags = fcntl(pipe.writerForChild, F_GETFL) | O_NONBLOCK
    try #require(fcntl(pipe.writerForChild, F_SETFL, flags) == 0)
    let rows = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 50000) "
    let child = try bench.tool.start(
      ["sql", rows + "SELECT n FROM r"],
      outputDescriptor: pipe.writerForChild
    )
    try waitUntil("the pipe is full") { pipe.waitingByteCount >= 64 << 10 }
    #expect(fcntl(pipe.writerForChild, F_GETFL) == flags)
    pipe.closeWriter()
    let output = try pipe.readToEnd()
    #expect(output.count { $0 == UInt8(ascii: "\n") } == 50_000)
    expectSuccess(try child.wait())
  }

  @Test func theSnapshotIsAParameter() throws {
    for (reference, name) in [("web/1", "web/1"), ("latest", "web/2"), ("web/2~1", "web/1")] {
      #expect(try sql(reference, "SELECT :snapshot").text == "\(name)\n")
    }
    #expect(try sql("SELECT :snapshot").text == "web/2\n")
    try bench.tool.succeed("delete", "web/1", "web/2")
    #expect(try sql("SELECT :snapshot IS NULL").text == "1\n")
  }

  @Test func theShellsExitCodeIsOurs() throws {
    let outcome = try sql("SELECT nowhere")
    #expect(outcome.ending == .exit(1))
    #expect(outcome.standardError.contains("no such column: nowhere"))
    let script = try bench.write("script.sql", "SELEC;\nSELECT 2;\n")
    let stopped = try bench.tool.run("sql", input: .file(script))
    #expect(stopped.ending == .exit(1))
    #expect(stopped.text == "")
  }

  @Test(arguments: [
    "DELETE FROM snapshot", "PRAGMA user_version = 9", "DROP VIEW stored_page", "VACUUM",
    "PRAGMA query_only = OFF; PRAGMA writable_schema = ON; DELETE FROM sqlite_schema",
  ])
  func nothingWritesToTheStore(statement: String) throws {
    let before = try readFile(bench.storePath)
    let outcome = try sql(statement)
    #expect(!outcome.succeeded, "\(outcome)")
    #expect(try readFile(bench.storePath) == before)
  }

  @Test(arguments: [
    ":memory:", "file:x.db?mode=rwc", "a b'c\"d\\e.db", "new\nline#%41?.db", "-readonly", "ü|.db",
  ])
  func everyPathIsAFile(name: String) throws {
    try copyFile(bench.storePath, bench.directory.file(name))
    let store = bench.directory.file(name)
    let outcome = try run([
      VMCkptTool.path(), "sql", "--store", store, "SELECT count(*) FROM snapshot",
    ])
    expectSuccess(outcome)
    #expect(outcome.text == "2\n")
    #expect(bench.directory.entries.contains(name))
  }

  @Test func aMissingShellIsToldApart() throws {
    let bin = bench.directory.file("bin")
    mkdir(bin, 0o700)
    for path in [bin, "", ".", "bin"] {
      expectFailure(
        try sql("SELECT 1", environment: ["PATH": path]),
        69,
        "the program sqlite3 is not on the PATH; install it (Debian: apt-get install sqlite3)"
      )
    }
    // What cannot be executed is no shell.
    _ = try bench.write("bin/sqlite3", "#!/bin/sh\n")
    #expect(try sql("SELECT 1", environment: ["PATH": bin]).ending == .exit(69))
  }

  @Test func argumentsThatMakeNoSense() throws {
    expectFailure(
      try sql("web/9"),
      66,
      #"there is no snapshot "web/9"; did you mean "web/1" or "web/2"?"#
    )
    expectFailure(try sql(" "), 64, "the query is empty; give SQL")
    expectFailure(
      try sql("a b", "SELECT 1"),
      64,
      "invalid snapshot reference \"a b\"; a snapshot reference has 1 to 255 letters, digits and "
        + "._-/:@+"
    )
    expectFailure(
      try sql("--init", "/nothing"),
      66,
      #"there is no file "/nothing"; give --init a file of SQL and dot-commands"#
    )
    let json = try sql("web/9", "--json")
    #expect(json.standardError.hasPrefix(#"{"error":{"code":"not-found","exit_code":66,"#))
  }

  @Test func theInitFileRunsFirst() throws {
    let file = try bench.write("init.sql", "SELECT 'first';\n.nullvalue none\n")
    #expect(try sql("SELECT NULL", "--init", file).text == "first\nnone\n")
  }

  @Test func filesThatTheShellWritesAreTheirOwnersOnly() throws {
    let path = bench.directory.file("out")
    umask(0o022)
    expectSuccess(try sql("SELECT writefile('\(path)', x'01')"))
    #expect(try fileMode(path) == 0o600)
  }

  @Test func aSignalReachesTheShell() throws {
    let child = try bench.tool.start([
      "sql", "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT count(*) FROM n",
    ])
    // Before that, the signal would end vmckpt itself.
    try waitUntil("the shell runs") { child.executable?.hasSuffix("/sqlite3") == true }
    child.send(SIGTERM)
    #expect(try child.wait().ending == .signal(SIGTERM))
  }

  @Test func aReaderThatGoesAwayEndsTheShell() throws {
    var pipe: ChildPipe? = try ChildPipe()
    let child = try bench.tool.start(
      ["sql", "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n"],
      outputDescriptor: pipe?.writerForChild
    )
    #expect(try pipe?.read(upTo: 2) == Array("1\n".utf8))
    pipe = nil
    #expect(try child.wait().ending == .signal(SIGPIPE))
  }

  /// An extension that has the function `answer()`.
  private func makeExtension(at path: String) throws {
    let source = try bench.write(
      "answer.c",
      """
      #include <sqlite3ext.h>
      SQLITE_EXTENSION_INIT1
      static void answer(sqlite3_context *c, int n, sqlite3_value **v) {
        sqlite3_result_int(c, 42);
      }
      int sqlite3_vmckpt_init(sqlite3 *db, char **error, const sqlite3_api_routines *api) {
        SQLITE_EXTENSION_INIT2(api)
        return sqlite3_create_function(db, "answer", 0, SQLITE_UTF8, 0, answer, 0, 0);
      }
      """
    )
    expectSuccess(
      try run(["/usr/bin/env", "gcc", "-shared", "-fPIC", "-o", path, source])
    )
  }

  @Test func anExtensionIsLoadedWhereThereIsOne() throws {
    let directory = bench.directory.file("it's \"odd\"\\n\n")
    for name in ["", "/bin", "/lib", "/lib/vmckpt"] { mkdir(directory + name, 0o700) }
    let library = "\(directory)/some.so"
    try makeExtension(at: library)
    let loaded = try sql("SELECT answer()", environment: ["VMCKPT_EXTENSION": library])
    expectSuccess(loaded)
    #expect(loaded.text == "42\n")
    #expect(try !sql("SELECT answer()").succeeded)

    let tool = "\(directory)/bin/vmckpt"
    try copyFile(VMCkptTool.path(), tool)
    chmod(tool, 0o700)
    func answer() throws -> ProcessOutcome {
      try run([tool, "sql", "SELECT answer()", "--store", bench.storePath])
    }
    #expect(try !answer().succeeded)
    for place in ["bin/vmckpt.so", "bin/libvmckptext.so", "lib/vmckpt/vmckpt.so"] {
      try copyFile(library, "\(directory)/\(place)")
      #expect(try answer().text == "42\n", "\(place)")
      unlink("\(directory)/\(place)")
    }
  }

  /// The built one lies beside the built program.
  @Test func theShellReadsTheGuestsMemory() throws {
    let right = try sql(
      "web/2",
      """
      SELECT count(*) > 0, sum(page_sha256(page_data(:snapshot, pfn)) = digest) = count(*)
        FROM stored_page WHERE snapshot = :snapshot
      """
    )
    expectSuccess(right)
    #expect(right.text == "1|1\n")
  }

  @Test func anExtensionThatIsMissingIsAnError() throws {
    expectFailure(
      try sql("SELECT 1", environment: ["VMCKPT_EXTENSION": "/nothing.so"]),
      66,
      #"there is no file "/nothing.so", which VMCKPT_EXTENSION names; correct the variable, or "#
        + "unset it"
    )
    let broken = try bench.write("broken.so", "no library")
    let outcome = try sql("SELECT 1", environment: ["VMCKPT_EXTENSION": broken])
    #expect(outcome.ending == .exit(1), "\(outcome)")
    #expect(outcome.text == "")
  }

  /// A hostile name reaches the shell as text.
  @Test func aHostileNameIsNoCommand() throws {
    let name = "x'\";\n.shell touch \(bench.directory.file("pwned"))"
    let digits = name.utf8.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    try bench.sql.run("UPDATE snapshot SET name = CAST(x'\(digits)' AS TEXT) WHERE name = 'web/2'")
    let outcome = try sql("SELECT hex(:snapshot)")
    expectSuccess(outcome)
    #expect(outcome.text == digits.uppercased() + "\n")
    #expect(!exists(bench.directory.file("pwned")))
  }
}
