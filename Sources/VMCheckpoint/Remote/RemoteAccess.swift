public import Foundation
import GRDB

/// How a user reaches remotes: what is said on a command line, and is in no store.
public struct RemoteAccess: Sendable, Hashable {
  /// A file with credentials that only this user may read; `nil` for the environment, then `~/.aws/credentials`.
  public var credentialsPath: String?
  /// Certificates of authorities in place of the system's.
  public var caFile: String?
  /// Whether plain HTTP may go to other hosts.
  public var allowsPlainHTTP = false
  /// What is sent and received in a second at most.
  public var limitBytesPerSecond: UInt64?
  /// Whether this user says that the remote of a store that may be a stranger's is the right one.
  public var confirms = false

  /// The defaults, with the authorities of `AWS_CA_BUNDLE`, as AWS's tools take them.
  public init(environment: [String: String] = ProcessInfo.processInfo.environment) {
    caFile = environment["AWS_CA_BUNDLE"].flatMap { $0.isEmpty ? nil : $0 }
  }
}

/// How long one request is tried again before it has failed, where the usual would be too long for who waits.
struct RemotePatience {
  var retrySeconds: Double
  /// How long a transfer may move nothing.
  var stallSeconds: Int
}

extension RemoteLocation {
  /// Makes what speaks to the remote.
  ///
  /// - Parameter makesFolder: Whether the folder of a remote in a folder is made.
  /// - Throws: ``VMCheckpointError``: `invalidArgument` for an address or an endpoint that is none; `permissionDenied`
  ///   without credentials; `unavailable` when a library is missing; `notFound`.
  package func transport(
    _ access: RemoteAccess,
    makesFolder: Bool = false,
    control: OperationControl
  ) throws(VMCheckpointError) -> any RemoteTransport {
    try transport(access, makesFolder: makesFolder, patience: nil, control: control)
  }

  fileprivate func transport(
    _ access: RemoteAccess,
    makesFolder: Bool = false,
    patience: RemotePatience?,
    control: OperationControl
  ) throws(VMCheckpointError) -> any RemoteTransport {
    var options = RemoteOptions(
      cancellation: control.cancellation,
      onWarning: control.onWarning
    )
    options.endpoint = try parsedEndpoint
    options.region = region
    options.credentials = RemoteCredentialSource(path: access.credentialsPath)
    options.caFile = access.caFile
    options.allowsPlainHTTP = access.allowsPlainHTTP
    options.limitBytesPerSecond = access.limitBytesPerSecond
    options.makesFolder = makesFolder
    if let patience {
      options.retrySeconds = patience.retrySeconds
      // Who waits longer than that says so: see ``RemoteOutages``.
      options.saysRetries = false
      options.stallTimeoutSeconds = patience.stallSeconds
      options.connectTimeoutSeconds = min(
        options.connectTimeoutSeconds,
        Double(patience.stallSeconds)
      )
    }
    return try RemoteAddress(address).transport(options)
  }

  /// The endpoint, checked.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`.
  var parsedEndpoint: RemoteEndpoint? {
    get throws(VMCheckpointError) {
      guard let endpoint else { return nil }
      return try RemoteEndpoint(endpoint)
    }
  }
}

extension Store {
  /// Opens a remote of this store, if this user has confirmed it: a store may be a stranger's, and whoever it names would
  /// get this user's signature, and guests' memory.
  ///
  /// - Throws: ``VMCheckpointError``: `permissionDenied` when it is not confirmed; as ``remote(named:)``; as
  ///   ``RemoteLocation/transport(_:makesFolder:control:)``.
  package func open(
    remote name: String?,
    _ access: RemoteAccess,
    control: OperationControl
  ) throws(VMCheckpointError) -> (remote: RemoteRow, transport: any RemoteTransport) {
    try open(remote: name, access, patience: nil, control: control)
  }

  /// The same, with another patience than the usual.
  func open(
    remote name: String?,
    _ access: RemoteAccess,
    patience: RemotePatience?,
    control: OperationControl
  ) throws(VMCheckpointError) -> (remote: RemoteRow, transport: any RemoteTransport) {
    let remote = try remote(named: name)
    let location = RemoteLocation(
      address: remote.address,
      endpoint: remote.endpoint,
      region: remote.region
    )
    let (trust, subject) = try trust(location)
    if access.confirms {
      try trust.confirm(subject)
    } else if try !trust.isConfirmed(subject) {
      let place = remote.endpoint.map { "\(remote.address) at \($0)" } ?? remote.address
      throw VMCheckpointError(
        .permissionDenied,
        "this user has not confirmed \(remote.title) of the store, which is \(quotedName(place))",
        hint: "if that is the right place, say so with: --confirm-remote"
      )
    }
    return (remote, try location.transport(access, patience: patience, control: control))
  }

  /// Notes that this user means this place, having named it.
  package func confirm(_ location: RemoteLocation) throws(VMCheckpointError) {
    let (trust, subject) = try trust(location)
    try trust.confirm(subject)
  }

  private func trust(
    _ location: RemoteLocation
  ) throws(VMCheckpointError) -> (RemoteTrust, RemoteTrust.Subject) {
    let uuid = try read { database in
      try String.fetchOne(database, sql: "SELECT uuid FROM store WHERE id = 1") ?? ""
    }
    let subject = RemoteTrust.Subject(
      storeID: uuid,
      address: try RemoteAddress(location.address),
      endpoint: try location.parsedEndpoint
    )
    return (try RemoteTrust(), subject)
  }
}
