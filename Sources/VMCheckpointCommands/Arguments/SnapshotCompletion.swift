import ArgumentParser
import VMCheckpoint

/// What a shell offers for a REF: `latest`, and the names of the snapshots of the store that the command line names.
enum SnapshotCompletion {
  /// Nobody reads more.
  private static let maximumCount = 1000

  /// For arguments that name a snapshot of the store.
  static let kind = CompletionKind.custom { words, _, prefix in
    let path = storePath(words, environment: CommandSession.ofThisProcess().environment)
    return names(storePath: path).filter { $0.hasPrefix(unquoted(prefix)) }
  }

  /// The newest snapshots first. Whatever is wrong, a shell wants no error: nothing is offered then.
  static func names(storePath: String) -> [String] {
    let waiting = CancellationFlag(lockWaitSeconds: 0)
    guard let store = try? Store.open(at: storePath, cancellation: waiting),
      let snapshots = try? store.snapshots(), !snapshots.isEmpty
    else { return [] }
    // A store may be a stranger's: what no name can be is not put before a shell.
    let names = snapshots.reversed().prefix(maximumCount).map(\.name)
      .filter { (try? SnapshotName.check($0)) != nil }
    return [SnapshotName.latest] + names
  }

  /// The store of a command line that is not complete. Words are as they were typed, quotes and all.
  static func storePath(_ words: [String], environment: [String: String]) -> String {
    var given: String?
    for (index, word) in words.enumerated() {
      if word == "--store", index + 1 < words.count { given = words[index + 1] }
      if word.hasPrefix("--store=") { given = String(word.dropFirst("--store=".count)) }
    }
    guard let given else {
      let path = environment[CommonOptions.storeVariable] ?? ""
      return path.isEmpty ? CommonOptions.defaultStorePath : path
    }
    let path = unquoted(given)
    guard path.hasPrefix("~/"), let home = environment["HOME"] else { return path }
    return home + path.dropFirst(1)
  }

  private static func unquoted(_ word: String) -> String {
    word.filter { !"'\"\\".contains($0) }
  }
}
