import Foundation
import Testing
import VMCheckpointTestSupport

/// Pages that a guest's kernel keeps of files, beside the files themselves: read from the guest's disk by another
/// program.
@Suite(.guest, .slow) struct GuestFileTests {
  private static let pages =
    "FROM guest_page('m') g WHERE g.class = 'file' AND g.owner = 'ext4' AND g.file NOT LIKE '% (deleted)'"

  @Test(arguments: [0, 1]) func cachedPagesAreTheBytesOfTheirFiles(moment: Int) throws {
    let guest = try GuestImages()
    let bench = try Workbench()
    try bench.tool.succeed("save", guest.moments[moment], "--name", "m")
    let shell = ExtensionShell(bench.storePath)
    let paths = try shell.run("SELECT DISTINCT g.file \(Self.pages);").split(separator: "\n")
    #expect(paths.count > 500)

    let script = bench.directory.file("script")
    let dumps = paths.enumerated().map {
      "dump \"\($1)\" \(bench.directory.file("file-\($0)"))\n"
    }
    try writeFile(script, dumps.joined())
    let outcome = try run(["/usr/sbin/debugfs", "-f", script, guest.disk])
    #expect(outcome.succeeded, "\(outcome)")
    let files = paths.enumerated().map {
      "INSERT INTO f VALUES ('\($1)', readfile('\(bench.directory.file("file-\($0)"))'));\n"
    }
    // What is behind the file's end is zero.
    let counts = try shell.run(
      """
      PRAGMA temp_store = memory;
      CREATE TEMP TABLE f(path PRIMARY KEY, data BLOB NOT NULL);
      \(files.joined())
      SELECT count(*) > 5000,
             sum(p.bytes IS NULL OR p.page_index NOT BETWEEN 0 AND (length(f.data) - 1) / 4096),
             sum(substr(p.bytes, 1, length(p.part)) IS NOT p.part),
             sum(trim(hex(substr(p.bytes, length(p.part) + 1)), '0') <> '')
        FROM (SELECT g.*, f.rowid AS number, coalesce(page_data('m', g.pfn), zeroblob(4096)) AS bytes,
                     substr(f.data, g.page_index * 4096 + 1, 4096) AS part
                \(Self.pages.replacingOccurrences(of: " WHERE", with: " JOIN f ON f.path = g.file WHERE"))
             ) p JOIN f ON f.rowid = p.number;
      SELECT count(*) \(Self.pages) AND g.file NOT IN (SELECT path FROM f);
      """
    )
    #expect(counts == "1|0|0|0\n0")
  }
}
