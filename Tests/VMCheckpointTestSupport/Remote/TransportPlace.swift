package import Testing
package import VMCheckpoint

/// Where the tests of transports keep objects.
package enum TransportPlace: String, CaseIterable, Sendable, CustomTestStringConvertible {
  case folder

  package static let all = allCases

  /// A transport to an empty remote of its own, and what has to stay until the test ends.
  package func make(
    cancellation: CancellationFlag = CancellationFlag()
  ) throws -> (transport: any RemoteTransport, keeper: any Sendable) {
    switch self {
    case .folder:
      let directory = try TemporaryDirectory()
      return (try FolderTransport(path: directory.path, cancellation: cancellation), directory)
    }
  }

  package var testDescription: String { rawValue }
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
