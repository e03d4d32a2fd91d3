/// The plain `sqlite3` shell on a store: a look from outside, and a way to damage it.
package struct SQLiteShell {
  private let path: String

  package init(_ path: String) {
    self.path = path
  }

  /// Runs SQL; returns what it prints, without the last newline.
  @discardableResult
  package func run(_ sql: String) throws -> String {
    let outcome = try VMCheckpointTestSupport.run(
      ["/usr/bin/env", "sqlite3", "-batch", "-bail", "-cmd", ".timeout 120000", path, sql])
    guard outcome.succeeded else { throw TestSetupError("sqlite3 failed: \(outcome)") }
    return outcome.text.last == "\n" ? String(outcome.text.dropLast()) : outcome.text
  }

  /// Runs SQL that gives one integer.
  package func integer(_ sql: String) throws -> Int {
    let text = try run(sql)
    guard let value = Int(text) else { throw TestSetupError("no integer: \(sql) => \(text)") }
    return value
  }

  /// How many pages the chunks hold, and how many distinct ones the snapshots name.
  package func pageCounts() throws -> (stored: Int, named: Int) {
    (
      try integer("SELECT coalesce(sum(page_count), 0) FROM chunk"),
      try integer(
        """
        SELECT count(*) FROM (
          SELECT digest FROM stored_page
          UNION SELECT c.digest FROM overlay o JOIN chunk_page c
             ON c.chunk_id = o.contents_chunk_id AND c.slot = o.contents_slot)
        """
      )
    )
  }
}
