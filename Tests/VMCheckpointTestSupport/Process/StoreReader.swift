import Foundation

/// A `sqlite3` shell that holds a transaction of a store: one that reads, so that nobody can commit, or
/// an exclusive one, so that nobody can read either.
package final class StoreReader {
  private let input: ChildPipe
  private let process: ChildProcess

  /// Returns when the transaction has begun.
  package init(_ path: String, isExclusive: Bool = false) throws {
    input = try ChildPipe()
    let mark = path + "-reader-\(UUID().uuidString)"
    process = try ChildProcess(
      ["/usr/bin/env", "sqlite3", "-batch", "-bail", "-cmd", ".timeout 120000", path],
      input: .descriptor(input.reader)
    )
    let sql =
      "BEGIN\(isExclusive ? " EXCLUSIVE" : "");\nSELECT count(*) FROM snapshot;\n.shell touch '\(mark)'\n"
    try input.write(Array(sql.utf8))
    try waitUntil("the reader has begun") { exists(mark) }
    unlink(mark)
  }

  /// Ends the transaction and the shell.
  package func end() throws {
    input.closeWriter()
    _ = try process.wait()
  }
}
