/// What pushes of several snapshots did. One that cannot be pushed keeps no other from being pushed.
public struct PushReport: Sendable {
  /// A snapshot that was not pushed.
  public struct Refusal: Sendable, Hashable {
    /// The snapshot's name.
    public var name: String
    /// The same in every store.
    public var uuid: String
    /// Why it was not pushed.
    public var error: VMCheckpointError
  }

  /// The snapshots that the remote has now, in the order in which they were pushed.
  public internal(set) var results: [PushResult] = []
  /// Those that could not be pushed, which kept no others from it.
  public internal(set) var refusals: [Refusal] = []
  /// What ended the pushes before all snapshots had been tried: a remote that does not answer, for example.
  public internal(set) var failure: VMCheckpointError?

  /// How many snapshots were to be pushed.
  let wantedCount: Int

  init(wantedCount: Int) { self.wantedCount = wantedCount }

  /// Notes why a snapshot was not pushed.
  ///
  /// - Returns: Whether the next one may go: the reason is in the snapshot, and not in the remote.
  mutating func note(
    _ error: VMCheckpointError,
    _ snapshot: SnapshotRow,
    _ control: OperationControl
  ) -> Bool {
    guard error.code == .cannotCreate || error.code == .notFound || error.isDamage else {
      failure = error
      return false
    }
    if wantedCount > 1 {
      control.onWarning?("\(snapshot.title) was not pushed: \(error.message)")
    }
    refusals.append(Refusal(name: snapshot.name, uuid: snapshot.uuid, error: error))
    return true
  }

  /// The error that the pushes end with; `nil`: all that was to be pushed is there.
  public var error: VMCheckpointError? {
    if let failure { return failure }
    guard let first = refusals.first?.error else { return nil }
    guard wantedCount > 1 else { return first }
    return VMCheckpointError(
      first.code,
      "\(refusals.count) of \(wantedCount) snapshots could not be pushed: \(first.message)",
      hint: first.hint
    )
  }

  /// - Returns: The report, when something was pushed or nothing had to be, or several snapshots were refused, each for a
  ///   reason of its own.
  /// - Throws: ``error`` where it is all that there is to say.
  func checked() throws(VMCheckpointError) -> PushReport {
    if results.isEmpty, refusals.count < 2, let error { throw error }
    return self
  }
}
