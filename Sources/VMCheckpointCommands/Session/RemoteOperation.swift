import VMCheckpoint

/// An operation on a remote of the store: the store is opened, the remote is one that this user has confirmed, and signals
/// end it.
struct RemoteOperation {
  var session: CommandSession
  var common: CommonOptions
  var arguments: RemoteArguments
  /// The remote's name in the store; `nil` for the only one, or `origin`.
  var name: String?
  var purpose = StorePurpose.reading
  /// Requests at a time; `nil`: one a core.
  var threadCount: Int?

  /// What `body` works on.
  struct Place {
    var store: Store
    var remote: RemoteRow
    var transport: any RemoteTransport
    var control: OperationControl
  }

  /// Runs `body` and returns what it returned with the warnings it gave.
  func run<Result>(
    _ body: (Place) throws(VMCheckpointError) -> Result
  ) throws(VMCheckpointError) -> (result: Result, warnings: [String]) {
    let storePath = try common.storePath(environment: session.environment)
    let operation = LongOperation(session: session, common: common, threadCount: threadCount)
    return try operation.run { (control) throws(VMCheckpointError) in
      let store = try Store.open(
        at: storePath,
        for: purpose,
        cancellation: control.cancellation
      )
      let (remote, transport) = try store.open(remote: name, arguments.access, control: control)
      return try body(
        Place(store: store, remote: remote, transport: transport, control: control)
      )
    }
  }
}

extension RemoteChoice {
  /// An operation on the remote that was chosen.
  func operation(
    in session: CommandSession,
    _ common: CommonOptions,
    _ arguments: RemoteArguments,
    for purpose: StorePurpose = .reading
  ) -> RemoteOperation {
    RemoteOperation(
      session: session,
      common: common,
      arguments: arguments,
      name: remote,
      purpose: purpose
    )
  }
}
