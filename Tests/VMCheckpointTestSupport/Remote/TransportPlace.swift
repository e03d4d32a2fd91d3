import Testing
package import VMCheckpoint

/// Where the tests of transports keep objects: a folder, a server in this process, and the real servers that
/// `Scripts/object-store` started, as `Scripts/test` says in VMCKPT_OBJECT_STORES:
/// `ceph=ENDPOINT,CREDENTIALS,BUCKET seaweedfs=…`.
package enum TransportPlace: String, CaseIterable, Sendable, CustomTestStringConvertible {
  case folder
  case mock
  case ceph
  case seaweedfs

  /// Those that are there. In CI a test fails where one is missing.
  package static let all = allCases.filter { $0 == .folder || $0 == .mock || $0.server != nil }

  /// The real servers that are missing.
  package static var missingServers: [Self] { [.ceph, .seaweedfs].filter { $0.server == nil } }

  /// A transport to an empty remote of its own, and what has to stay until the test ends.
  package func make(
    cancellation: CancellationFlag = CancellationFlag()
  ) throws -> (transport: any RemoteTransport, keeper: any Sendable) {
    var options = RemoteOptions(cancellation: cancellation)
    switch self {
    case .folder:
      let directory = try TemporaryDirectory()
      let address = try RemoteAddress("file://\(directory.path)/remote")
      options.makesFolder = true
      return (try address.transport(options), directory)
    case .mock:
      let server = try MockObjectStore()
      return (try server.transport(options), server)
    case .ceph, .seaweedfs:
      let server = try requireServer()
      options.endpoint = try RemoteEndpoint(server.endpoint)
      options.credentials = RemoteCredentialSource(path: server.credentials, environment: [:])
      let address = try RemoteAddress("s3://\(server.bucket)/test/\(UniqueID.make())")
      let transport = try address.transport(options)
      return (transport, RemoteRemoval(address: address, options: options))
    }
  }

  /// A transport to a real server, with other credentials, or to another bucket.
  package func transport(
    credentials: RemoteCredentialSource? = nil,
    bucket: String? = nil
  ) throws -> any RemoteTransport {
    let server = try requireServer()
    var options = RemoteOptions()
    options.endpoint = try RemoteEndpoint(server.endpoint)
    options.credentials =
      credentials ?? RemoteCredentialSource(path: server.credentials, environment: [:])
    return try RemoteAddress("s3://\(bucket ?? server.bucket)/test").transport(options)
  }

  private func requireServer() throws -> (endpoint: String, credentials: String, bucket: String) {
    guard let server else { throw TestSetupError("\(self) is not there") }
    return server
  }

  /// How a real server is reached; `nil` for others, and for one that is missing.
  package var server: (endpoint: String, credentials: String, bucket: String)? {
    for word in (environmentValue("VMCKPT_OBJECT_STORES") ?? "").split(separator: " ") {
      guard word.hasPrefix("\(rawValue)=") else { continue }
      let parts = word.dropFirst(rawValue.count + 1).split(separator: ",").map(String.init)
      if parts.count == 3 { return (parts[0], parts[1], parts[2]) }
    }
    return nil
  }

  package var testDescription: String { rawValue }
}

/// Removes what a test put, when it goes away.
private final class RemoteRemoval: Sendable {
  private let address: RemoteAddress
  private let options: RemoteOptions

  init(address: RemoteAddress, options: RemoteOptions) {
    self.address = address
    var options = options
    // The test may have cancelled its own.
    options.cancellation = CancellationFlag()
    self.options = options
  }

  deinit {
    guard let transport = try? address.transport(options),
      let keys = try? transport.keys()
    else { return }
    try? onThreads(4, count: keys.count) { try transport.delete(keys[$0]) }
  }
}

extension MockObjectStore {
  /// A transport to this server, below the prefix `remote`.
  package func transport(
    _ options: RemoteOptions = RemoteOptions()
  ) throws -> any RemoteTransport {
    var options = options
    if options.endpoint == nil { options.endpoint = try RemoteEndpoint(endpoint) }
    options.credentials = RemoteCredentialSource(
      environment: ["AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "TheSecretOfTheTests"]
    )
    return try RemoteAddress("s3://\(bucket)/remote").transport(options)
  }
}

extension RemoteTransport {
  /// Puts bytes.
  @discardableResult
  package func put(_ key: String, _ bytes: [UInt8]) throws -> RemoteObjectFacts {
    let key = try remoteKey(key)
    return try bytes.withUnsafeBytes { try put(key, $0) }
  }

  /// Reads an object, or a part of it, into a buffer of `capacity` bytes; `nil` when there is none.
  package func get(
    _ key: String,
    _ range: RemoteRange = .all,
    capacity: Int = 1 << 20
  ) throws -> (bytes: [UInt8], facts: RemoteObjectFacts)? {
    let key = try remoteKey(key)
    var buffer = [UInt8](repeating: 0xAA, count: capacity)
    guard let read = try buffer.withUnsafeMutableBytes({ try get(key, range, into: $0) }) else {
      return nil
    }
    return (Array(buffer[..<read.readByteCount]), read.facts)
  }

  package func head(_ key: String) throws -> RemoteObjectFacts? { try head(remoteKey(key)) }

  package func delete(_ key: String) throws { try delete(remoteKey(key)) }

  /// All objects below a prefix, and how many batches they came in.
  package func all(
    _ prefix: String = "",
    after start: String? = nil
  ) throws -> (facts: [RemoteObjectFacts], batchCount: Int) {
    var found: [RemoteObjectFacts] = []
    var batchCount = 0
    try list(prefix, after: start.map(remoteKey)) { batch throws(VMCheckpointError) in
      found += batch
      batchCount += 1
      return true
    }
    return (found, batchCount)
  }

  /// Their keys.
  package func keys(_ prefix: String = "", after start: String? = nil) throws -> [String] {
    try all(prefix, after: start).facts.map(\.key.text)
  }
}

/// A key that a test writes down.
package func remoteKey(_ text: String) throws -> RemoteKey {
  guard let key = RemoteKey(text) else { throw TestSetupError("\(text) is not a key") }
  return key
}
