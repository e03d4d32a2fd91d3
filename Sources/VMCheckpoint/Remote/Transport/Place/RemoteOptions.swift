/// How a remote's transport works, beside its address.
package struct RemoteOptions: Sendable {
  /// The server of an object store; `nil` for AWS's.
  package var endpoint: RemoteEndpoint?
  /// `nil`: that of the environment or `~/.aws/config`; else `us-east-1`, where an endpoint is given.
  package var region: String?
  /// Where the credentials come from. They are read when a transport is made.
  package var credentials = RemoteCredentialSource()
  /// A file of the authorities that may have signed the server's certificate, in PEM; `nil` for the system's.
  package var caFile: String?
  /// Whether requests may cross a network in the clear. To this host they may without it.
  package var allowsPlainHTTP = false
  /// The most bytes a second, in both directions together; `nil` for no limit.
  package var limitBytesPerSecond: UInt64?
  /// How long a request is tried again before it has failed, where the server answered before. One that never
  /// answered is given up sooner.
  package var retrySeconds = 60.0
  /// Whether it is said, by ``onWarning``, that a request is tried again.
  package var saysRetries = true
  /// How long a transfer may move nothing before it is tried again.
  package var stallTimeoutSeconds = 30
  package var connectTimeoutSeconds = 10.0
  /// Whether the folder of a `file:` address is made when it is missing.
  package var makesFolder = false
  package var cancellation: CancellationFlag
  /// Called with a one-line message about something that the user should know, from any thread.
  package var onWarning: (@Sendable (String) -> Void)?

  package init(
    cancellation: CancellationFlag = CancellationFlag(),
    onWarning: (@Sendable (String) -> Void)? = nil
  ) {
    self.cancellation = cancellation
    self.onWarning = onWarning
  }
}

extension RemoteAddress {
  /// Makes a transport to the remote at this address. Nothing is sent yet.
  ///
  /// The caller has asked ``RemoteTrust`` before.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidArgument` for options that do not fit, as ``S3Transport`` and
  ///   ``FolderTransport`` say.
  package func transport(
    _ options: RemoteOptions
  ) throws(VMCheckpointError) -> any RemoteTransport {
    switch self {
    case .objectStore(let bucket, let prefix):
      return try S3Transport(bucket: bucket, prefix: prefix, options: options)
    case .folder(let path):
      guard options.endpoint == nil, options.region == nil else {
        throw VMCheckpointError(
          .invalidArgument,
          "\(quotedName(description)) is a folder, which has no endpoint and no region"
        )
      }
      return try FolderTransport(
        path: path,
        makesFolder: options.makesFolder,
        limitBytesPerSecond: options.limitBytesPerSecond,
        cancellation: options.cancellation
      )
    }
  }
}
