import Foundation

/// A directory with a store that the built `vmckpt` works on.
package struct Workbench {
  package let directory: TemporaryDirectory
  package let tool: VMCkptTool

  /// The store is not made yet.
  package init(in parent: String? = nil) throws {
    directory = try TemporaryDirectory(in: parent)
    tool = try VMCkptTool(storePath: directory.file("store.db"))
  }

  package var storePath: String { tool.storePath }

  package var sql: SQLiteShell { SQLiteShell(storePath) }

  /// Makes a file in the directory and returns its path.
  package func write(_ name: String, _ bytes: [UInt8]) throws -> String {
    try writeSparseFile(directory.file(name), bytes)
    return directory.file(name)
  }

  /// Makes a text file in the directory and returns its path.
  package func write(_ name: String, _ text: String) throws -> String {
    try writeFile(directory.file(name), text)
    return directory.file(name)
  }

  /// Saves RAM as a snapshot.
  @discardableResult
  package func save(_ name: String, _ ram: [UInt8], _ options: String...) throws -> String {
    let path = try write("\(UUID().uuidString).ram", ram)
    defer { unlink(path) }
    let outcome = try tool.start(["save", path, "--name", name, "--json"] + options).wait()
    guard outcome.succeeded else { throw TestSetupError("this must succeed: \(outcome)") }
    return try outcome.jsonObject()["digest"] as? String ?? ""
  }

  package func restore(_ reference: String) throws -> [UInt8] {
    try tool.restored(reference, in: directory)
  }

  /// The pages that a dump left out, as the store's table has them.
  package func absentPFNs(of snapshot: String) throws -> Set<UInt64> {
    guard try sql.integer("SELECT count(*) FROM feature") > 0 else { return [] }
    let rows = try sql.run(
      """
      SELECT first_pfn, page_count FROM absent_range
       WHERE snapshot_id = (SELECT id FROM snapshot WHERE name = '\(snapshot)')
      """
    )
    return rows.split(separator: "\n").reduce(into: []) { pages, row in
      let numbers = row.split(separator: "|").compactMap { UInt64($0) }
      pages.formUnion(numbers[0]..<(numbers[0] + numbers[1]))
    }
  }

  /// The names in the directory that an operation should not have left, such as temporary files.
  package var leftovers: [String] { directory.entries.filter { $0.hasSuffix(".tmp") } }

  /// Problems of a store that must be sound, hold exactly these snapshots with this RAM, and after
  /// a gc nothing else.
  package func problems(expecting snapshots: [(name: String, ram: [UInt8])]) throws -> [String] {
    var problems: [String] = []
    func check(_ outcome: ProcessOutcome) {
      if !outcome.succeeded { problems.append("\(outcome)") }
    }
    check(try tool.verify())
    if try sql.run("PRAGMA integrity_check") != "ok" { problems.append("integrity_check") }
    let names = try tool.snapshotNames()
    if names != snapshots.map(\.name) { problems.append("snapshots \(names)") }
    check(try tool.run("gc"))
    check(try tool.verify())
    for (name, ram) in snapshots where try restore(name) != ram {
      problems.append("\(name) differs")
    }
    let (stored, named) = try sql.pageCounts()
    if stored != named { problems.append("\(stored) pages are stored, \(named) named") }
    let unfinished = try sql.integer("SELECT count(*) FROM snapshot WHERE state <> 'complete'")
    if unfinished != 0 { problems.append("\(unfinished) snapshots are unfinished") }
    let building = try sql.integer("SELECT count(*) FROM page_index_run WHERE state <> 'active'")
    if building != 0 { problems.append("\(building) runs are unfinished") }
    if !leftovers.isEmpty { problems.append("left: \(leftovers)") }
    return problems
  }
}

/// `pageCount` pages that a seed determines.
package func sampleRAM(_ pageCount: Int, seed: UInt64 = 1) -> [UInt8] {
  var generator = TestGenerator(seed: seed)
  return generator.mixedImage(pageCount: pageCount)
}

/// `pageCount` pages that a seed determines and that do not compress: enough of them make a save
/// commit several batches.
package func incompressibleRAM(_ pageCount: Int, seed: UInt64 = 1) -> [UInt8] {
  var generator = TestGenerator(seed: seed)
  var ram: [UInt8] = []
  ram.reserveCapacity(pageCount * 4096)
  for _ in 0..<pageCount { ram += generator.incompressiblePage() }
  return ram
}

/// How often a test of chance is repeated: `rounds`, or what VMCKPT_SOAK_ROUNDS says if more.
package func soakRounds(_ rounds: Int) -> Int {
  max(rounds, environmentValue("VMCKPT_SOAK_ROUNDS").flatMap(Int.init) ?? 0)
}
