import Testing
import VMCheckpointTestSupport

/// The extension works where there is no Swift, and in programs that bring their own SQLite.
@Suite struct ExtensionLinkingTests {
  @Test func needsNoSwiftAndNoSQLiteOfItsOwn() throws {
    let path = try ExtensionShell.path()
    let libraries = try run(["/usr/bin/ldd", path])
    #expect(libraries.succeeded && libraries.text.contains("libc.so"))
    #expect(!libraries.text.contains("swift") && !libraries.text.contains("sqlite"))
    let undefined = try run(["/usr/bin/nm", "-D", "--undefined-only", path])
    #expect(undefined.succeeded && undefined.text.contains("malloc"))
    #expect(!undefined.text.contains("sqlite3_"))
    let defined = try run(["/usr/bin/nm", "-D", "--defined-only", "--extern-only", path])
    let functions = defined.text.split(separator: "\n")
      .filter { $0.contains(" T ") }.compactMap { $0.split(separator: " ").last }
    #expect(functions.sorted() == ["sqlite3_vmckpt_init", "sqlite3_vmckptext_init"])
  }

  @Test func worksInAProgramWithSQLiteLinkedIn() throws {
    let bench = try Workbench()
    let ram = sampleRAM(32)
    try bench.save("a", ram)
    let source = try bench.write(
      "host.c",
      """
      #include <sqlite3.h>
      #include <stdio.h>
      int main(int argc, char **argv) {
        sqlite3 *db;
        char *error = 0;
        if (sqlite3_open_v2(argv[1], &db, SQLITE_OPEN_READONLY, 0)) return 2;
        sqlite3_enable_load_extension(db, 1);
        if (sqlite3_load_extension(db, argv[2], 0, &error)) {
          puts(error);
          return 3;
        }
        sqlite3_stmt *statement;
        if (sqlite3_prepare_v2(db, "SELECT hex(ram_read('latest', 0, 131072))", -1, &statement, 0))
          return 4;
        if (sqlite3_step(statement) != SQLITE_ROW) return 5;
        puts((const char *)sqlite3_column_text(statement, 0));
        sqlite3_finalize(statement);
        /* Closes only when the extension has let go of all its statements. */
        return sqlite3_close(db);
      }
      """
    )
    let host = bench.directory.file("host")
    let compiled = try run([
      "/usr/bin/env", "clang", "-o", host, source, "-l:libsqlite3.a", "-lm", "-ldl", "-lpthread",
    ])
    #expect(compiled.succeeded, "\(compiled)")
    #expect(!(try run(["/usr/bin/ldd", host])).text.contains("sqlite"))
    let outcome = try run([host, bench.storePath, try ExtensionShell.path()])
    #expect(outcome.ending == .exit(0), "\(outcome)")
    #expect(outcome.text == hexText(ram) + "\n")
  }
}
