import Glibc

/// What a server was found to do.
public struct RemoteProbeResult: Sendable, Hashable {
  /// One thing that remotes rely on.
  public struct Finding: Sendable, Hashable {
    /// What was tried.
    public var what: String
    /// Whether it is so.
    public var isRight: Bool
    /// What was seen, where it is not right.
    public var seen: String?
  }

  /// In the order in which they were tried.
  public var findings: [Finding]
  /// The server's clock less that of this host, in seconds. It decides nothing.
  public var clockSkewSeconds: Int64
  /// Wall time.
  public var durationSeconds: Double

  /// Whether a remote can be kept there.
  public var isFit: Bool { findings.allSatisfy(\.isRight) }
}

/// Tries what remotes rely on, with objects of its own that it deletes.
struct RemoteProbe {
  private static let objectCount = 24

  private let transport: any RemoteTransport
  private let control: OperationControl
  private let folder: String

  init(_ transport: any RemoteTransport, control: OperationControl) {
    self.transport = transport
    self.control = control
    folder = "probe/\(RemoteID())/"
  }

  /// - Throws: As ``RemoteTransport``, where a server does not even answer.
  func run() throws(VMCheckpointError) -> RemoteProbeResult {
    let start = MonotonicClock.nowSeconds
    var findings: [RemoteProbeResult.Finding] = []
    defer { clean() }
    let body = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let first = try put("a", body)
    var now = time_t()
    time(&now)
    let skew = first.serverSeconds - Int64(now)

    findings.append(
      try finding("an object that was put is there, whole") { () throws(VMCheckpointError) in
        try read("a", .all, body.count + 1) == body ? nil : "it is missing, or has other bytes"
      }
    )
    findings.append(
      try finding("a part of an object is read alone") { () throws(VMCheckpointError) in
        let middle = try read("a", .bytes(offset: 1000, count: 5000), 5000)
        let end = try read("a", .suffix(count: 700), 700)
        return middle == Array(body[1000..<6000]) && end == Array(body.suffix(700))
          ? nil : "other bytes came"
      }
    )
    findings.append(
      try finding("an object that is put again is the new one") { () throws(VMCheckpointError) in
        _ = try put("a", [1, 2, 3])
        return try read("a", .all, 100) == [1, 2, 3] ? nil : "the old one came"
      }
    )
    findings.append(
      try finding("an object that is not there is not there") { () throws(VMCheckpointError) in
        let facts = try transport.head(key("none"))
        let bytes = try read("none", .all, 10)
        return facts == nil && bytes == nil ? nil : "there is one"
      }
    )
    let names = (0..<Self.objectCount).map { "b/\($0 < 10 ? "0" : "")\($0)" }
    var times: [Int64] = []
    for name in names {
      try control.cancellation.check()
      times.append(try put(name, Array(name.utf8)).modifiedSeconds)
    }
    findings.append(
      try finding("what was put is listed at once, in order") { () throws(VMCheckpointError) in
        try list("b/") == names ? nil : "it is not"
      }
    )
    findings.append(
      try finding("a listing begins after a key") { () throws(VMCheckpointError) in
        try list("b/", after: key(names[9])) == Array(names[10...]) ? nil : "it does not"
      }
    )
    for name in names[..<12] { try transport.delete(key(name)) }
    findings.append(
      try finding("what was deleted is gone at once, and listed no more") {
        () throws(VMCheckpointError) in
        let listed = try list("b/")
        let facts = try transport.head(key(names[0]))
        return listed == Array(names[12...]) && facts == nil ? nil : "it is not"
      }
    )
    findings.append(
      try finding("the server's clock does not go back") { () throws(VMCheckpointError) in
        let facts = try transport.head(key(names[20]))
        let isRight =
          zip(times, times.dropFirst()).allSatisfy { $0 <= $1 }
          && facts.map { $0.modifiedSeconds == times[20] && $0.serverSeconds >= $0.modifiedSeconds }
            ?? false
        return isRight ? nil : "times of objects are not in the order in which they were put"
      }
    )
    return RemoteProbeResult(
      findings: findings,
      clockSkewSeconds: skew,
      durationSeconds: MonotonicClock.nowSeconds - start
    )
  }

  private func finding(
    _ what: String,
    _ problem: () throws(VMCheckpointError) -> String?
  ) throws(VMCheckpointError) -> RemoteProbeResult.Finding {
    try control.cancellation.check()
    var seen: String?
    do throws(VMCheckpointError) {
      seen = try problem()
    } catch {
      // A server that answers so is not fit either.
      guard error.code == .invalidData else { throw error }
      seen = error.message
    }
    return .init(what: what, isRight: seen == nil, seen: seen)
  }

  private func key(_ name: String) -> RemoteKey { RemoteKey(folder + name)! }

  private func put(
    _ name: String,
    _ bytes: [UInt8]
  ) throws(VMCheckpointError) -> RemoteObjectFacts {
    let result = bytes.withUnsafeBytes { buffer in
      Result { () throws(VMCheckpointError) in try transport.put(key(name), buffer) }
    }
    return try result.get()
  }

  private func read(
    _ name: String,
    _ range: RemoteRange,
    _ byteCount: Int
  ) throws(VMCheckpointError) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: byteCount)
    let result = bytes.withUnsafeMutableBytes { buffer in
      Result { () throws(VMCheckpointError) in try transport.get(key(name), range, into: buffer) }
    }
    guard let read = try result.get() else { return nil }
    return Array(bytes[..<read.readByteCount])
  }

  private func list(
    _ prefix: String,
    after start: RemoteKey? = nil
  ) throws(VMCheckpointError) -> [String] {
    var names: [String] = []
    try transport.list(folder + prefix, after: start) { (batch) throws(VMCheckpointError) in
      names += batch.map { String($0.key.text.dropFirst(folder.count)) }
      return true
    }
    return names
  }

  private func clean() {
    var keys: [RemoteKey] = []
    try? transport.list(folder, after: nil) { (batch) throws(VMCheckpointError) in
      keys += batch.map(\.key)
      return true
    }
    for key in keys { try? transport.delete(key) }
  }
}

extension RemoteLocation {
  /// Tries what remotes rely on at a place where there need not be one yet.
  ///
  /// - Throws: As ``RemoteTransport``, where a server does not even answer.
  package static func probe(
    _ transport: any RemoteTransport,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> RemoteProbeResult {
    try RemoteProbe(transport, control: control).run()
  }
}
