package import ArgumentParser
package import VMCheckpoint

/// The options that every command has.
package struct CommonOptions: ParsableArguments {
  /// The environment variable with the store's path.
  static let storeVariable = "VMCKPT_STORE"

  /// The store where nobody says which.
  static let defaultStorePath = "./vmckpt.db"

  /// A week.
  private static let maximumWaitSeconds: UInt64 = 7 * 24 * 3600

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The store. (default: $VMCKPT_STORE, else ./vmckpt.db)",
      valueName: "path"
    )
  )
  var store: String?

  @Flag(name: .long, help: "Print one JSON document instead of text.")
  var json = false

  @Flag(name: .long, help: "Show no progress bar, even on a terminal.")
  var noProgress = false

  @Option(
    name: .long,
    help: ArgumentHelp(
      "How long to wait for another program that uses the store. (default: 60)",
      valueName: "seconds"
    ),
    transform: Self.parseWait
  )
  var wait: Double?

  @Flag(
    name: .long,
    help: "Do not wait for another program, but for a moment while it commits: --wait 0."
  )
  var noWait = false

  /// Made by ArgumentParser.
  package init() {}

  /// Two answers to one question are refused.
  package mutating func validate() throws {
    guard noWait, let wait, wait > 0 else { return }
    throw ValidationError("--wait and --no-wait exclude each other")
  }

  /// The store's path: the option, else the environment variable, else `./vmckpt.db`. An empty
  /// variable counts as none.
  package func storePath(
    environment: [String: String]
  ) throws(VMCheckpointError) -> String {
    if let store {
      guard !store.isEmpty else {
        throw VMCheckpointError(.invalidArgument, "--store is empty", hint: "give it a path")
      }
      return store
    }
    if let store = environment[Self.storeVariable], !store.isEmpty { return store }
    return Self.defaultStorePath
  }

  /// How long to wait for another program's lock.
  package var lockWaitSeconds: Double {
    noWait ? 0 : wait ?? CancellationFlag.defaultLockWaitSeconds
  }

  /// What short operations get, which nothing cancels.
  var waiting: CancellationFlag { CancellationFlag(lockWaitSeconds: lockWaitSeconds) }

  /// Opens the store, which must exist.
  func openStore(
    in session: CommandSession,
    for purpose: StorePurpose = .reading
  ) throws(VMCheckpointError) -> Store {
    try Store.open(
      at: storePath(environment: session.environment),
      for: purpose,
      cancellation: waiting
    )
  }

  /// Parses a number of seconds, up to a week.
  static func parseWait(_ text: String) throws(ArgumentError) -> Double {
    let seconds = try DecimalNumber.parse(text)
    guard seconds <= maximumWaitSeconds else {
      throw ArgumentError("expected 0 to \(maximumWaitSeconds)")
    }
    return Double(seconds)
  }
}

/// The option of the commands that work with several threads.
package struct ThreadOptions: ParsableArguments {
  /// More than any machine has. The library uses fewer: see
  /// ``OperationControl/maximumThreadCount``.
  static let maximumCount = 1024

  @Option(
    name: .long,
    help: ArgumentHelp("Worker threads, at most 16. (default: one a core)", valueName: "n"),
    transform: Self.parse
  )
  package var threads: Int?

  /// Made by ArgumentParser.
  package init() {}

  /// Parses a number of threads.
  static func parse(_ text: String) throws(ArgumentError) -> Int {
    let count = try DecimalNumber.parse(text)
    guard (1...UInt64(maximumCount)).contains(count) else {
      throw ArgumentError("expected 1 to \(maximumCount)")
    }
    return Int(count)
  }
}
