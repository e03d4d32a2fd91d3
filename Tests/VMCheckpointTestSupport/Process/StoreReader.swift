import Foundation

/// A `sqlite3` shell that holds a read transaction of a store, so that nobody can commit.
package final class StoreReader {
  private let input: ChildPipe
  private let process: ChildProcess

  /// Returns when the transaction has begun.
  package init(_ path: String) throws {
    input = try ChildPipe()
    let mark = path + "-reader-\(UUID().uuidString)"
    process = try ChildProcess(
      ["/usr/bin/env", "sqlite3", "-batch", "-bail", "-cmd", ".timeout 20000", path],
      input: .descriptor(input.reader)
    )
    let sql = "BEGIN;\nSELECT count(*) FROM snapshot;\n.shell touch '\(mark)'\n"
    try input.write(Array(sql.utf8))
    try waitUntil("the reader has begun") { exists(mark) }
    unlink(mark)
  }

  /// Ends the transaction and the shell.
  package func end() throws {
    input.closeWriter()
    _ = try process.wait(timeoutSeconds: 20)
  }
}
