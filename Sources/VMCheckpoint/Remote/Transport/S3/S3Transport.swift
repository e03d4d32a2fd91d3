import Glibc
import Synchronization

/// A remote below a prefix of a bucket, on any server of the S3 protocol.
///
/// It relies on nothing that servers disagree about: no conditional requests, no checksums of their own beside
/// Content-MD5, no multipart uploads. An answer that cannot be right is refused, and never guessed at.
package final class S3Transport: RemoteTransport {
  package let title: String

  private let prefix: String
  private let session: S3Session

  /// - Throws: ``VMCheckpointError``: `invalidArgument` without a region where one is needed, and for plain HTTP
  ///   that would leave this host; `permissionDenied` without credentials; `unavailable` without libcurl.
  package init(
    bucket: String,
    prefix: RemoteKey?,
    options: RemoteOptions
  ) throws(VMCheckpointError) {
    let address = RemoteAddress.objectStore(bucket: bucket, prefix: prefix)
    title = address.description
    self.prefix = prefix.map { "\($0.text)/" } ?? ""
    session = try S3Session(bucket: bucket, title: title, options: options)
  }

  package var requestCounts: RemoteRequestCounts { session.counts.withLock { $0 } }

  // MARK: Objects

  package func put(
    _ key: RemoteKey,
    _ body: UnsafeRawBufferPointer
  ) throws(VMCheckpointError) -> RemoteObjectFacts {
    let hash = MD5Hash.hash(body)
    let tag = hexadecimal(hash)
    let request = S3Request(
      method: "PUT",
      key: prefix + key.text,
      headers: [("content-md5", Base64.encode(hash))],
      body: body
    )
    // A reply that was lost leaves open whether the object is there. Then what is there answers.
    let answer = try session.send(request, for: key.text) { () throws(VMCheckpointError) in
      guard let found = try self.headAnswer(key) else { return false }
      return found.entityTag == tag && found.contentLength == UInt64(body.count)
    }
    if let answer, let problem = answer.problem(besides: [200]) {
      throw session.failure(problem, "put", key.text)
    }
    // The reply does not say when the server took it.
    guard let facts = try head(key) else {
      throw VMCheckpointError(
        .unavailable,
        "object \(quotedName(key.text)) was put into \(title) and is not there",
        hint: "the server must show at once what it has taken: check how it replicates"
      )
    }
    return facts
  }

  package func head(_ key: RemoteKey) throws(VMCheckpointError) -> RemoteObjectFacts? {
    guard let head = try headAnswer(key) else { return nil }
    return try facts(of: key, head, byteCount: head.contentLength)
  }

  private func headAnswer(_ key: RemoteKey) throws(VMCheckpointError) -> HTTPResponseHead? {
    let answer = try session.send(S3Request(method: "HEAD", key: prefix + key.text), for: key.text)!
    if answer.head.status == 404 {
      // Without a body, it may as well be the bucket that is missing.
      try session.checkBucket()
      return nil
    }
    if let problem = answer.problem(besides: [200]) {
      throw session.failure(problem, "look at", key.text)
    }
    return answer.head
  }

  package func get(
    _ key: RemoteKey,
    _ range: RemoteRange,
    into buffer: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> RemoteRead? {
    let count: Int
    let header: String
    switch range {
    case .all:
      count = buffer.count
      header = "bytes=0-\(count - 1)"
    case .bytes(let offset, let wanted):
      count = min(max(0, wanted), buffer.count)
      // Behind what any object has: a server's arithmetic may fail there.
      if offset > 1 << 50 { return try emptyRead(key) }
      header = "bytes=\(offset)-\(offset + UInt64(max(count, 1)) - 1)"
    case .suffix(let wanted):
      count = max(0, wanted)
      if count > buffer.count {
        // The beginning of the range, which has to be found first.
        guard let facts = try head(key) else { return nil }
        let bounds = range.bounds(ofObjectWith: facts.byteCount)
        return try get(
          key,
          .bytes(offset: bounds.lowerBound, count: buffer.count),
          into: buffer
        )
      }
      header = "bytes=-\(count)"
    }
    if count == 0 { return try emptyRead(key) }
    let request = S3Request(
      method: "GET",
      key: prefix + key.text,
      headers: [("range", header)],
      buffer: UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]),
      accepts: { Self.problem(of: $0, range, count: count) }
    )
    let answer = try session.send(request, for: key.text)!
    switch answer.head.status {
    case 404 where answer.error?.code != "NoSuchBucket": return nil
    // The object ends before the range begins.
    case 416: return try emptyRead(key)
    default: break
    }
    if let problem = answer.problem(besides: [200, 206]) {
      throw session.failure(problem, "read", key.text)
    }
    let total = answer.head.contentRange?.totalByteCount ?? UInt64(answer.bufferByteCount)
    let facts = try facts(of: key, answer.head, byteCount: total)
    let expected = range.bounds(ofObjectWith: total)
    guard answer.bufferByteCount == min(expected.count, count) else {
      throw session.failure("the server sent other bytes than it said", "read", key.text)
    }
    return RemoteRead(readByteCount: answer.bufferByteCount, facts: facts)
  }

  /// A read of no bytes.
  private func emptyRead(_ key: RemoteKey) throws(VMCheckpointError) -> RemoteRead? {
    try head(key).map { RemoteRead(readByteCount: 0, facts: $0) }
  }

  /// What is wrong with an answer's head, for this range and so many bytes of it.
  private static func problem(
    of head: HTTPResponseHead,
    _ range: RemoteRange,
    count: Int
  ) -> String? {
    guard head.status == 206 else {
      // The whole object, of a server that ignores ranges. Right only where the range is all of it.
      let startsAtZero =
        switch range {
        case .bytes(let offset, _): offset == 0
        case .all, .suffix: true
        }
      guard startsAtZero, let length = head.contentLength, length <= UInt64(count) else {
        return "the server ignores ranges and sends whole objects"
      }
      return nil
    }
    guard let contents = head.contentRange, let bytes = contents.bytes else {
      return "the server does not say which part of the object it sends"
    }
    let bounds = range.bounds(ofObjectWith: contents.totalByteCount)
    let expected = bounds.lowerBound..<min(bounds.upperBound, bounds.lowerBound + UInt64(count))
    guard bytes == expected, head.contentLength.map({ $0 == UInt64(bytes.count) }) ?? true else {
      return "the server sends another part of the object than it was asked for"
    }
    return nil
  }

  package func delete(_ key: RemoteKey) throws(VMCheckpointError) {
    let request = S3Request(method: "DELETE", key: prefix + key.text)
    let answer = try session.send(request, for: key.text)!
    if answer.head.status == 404, answer.error?.code != "NoSuchBucket" { return }
    if let problem = answer.problem(besides: [200, 204]) {
      throw session.failure(problem, "delete", key.text)
    }
  }

  private func facts(
    of key: RemoteKey,
    _ head: HTTPResponseHead,
    byteCount: UInt64?
  ) throws(VMCheckpointError) -> RemoteObjectFacts {
    guard let byteCount, let modified = head.modifiedSeconds, let now = head.serverSeconds else {
      throw session.failure(
        "the server does not say how large the object is, when it came, or what the time is",
        "look at",
        key.text
      )
    }
    return RemoteObjectFacts(
      key: key,
      byteCount: byteCount,
      modifiedSeconds: modified,
      serverSeconds: now
    )
  }

  // MARK: Lists

  package func list(
    _ prefix: String,
    after start: RemoteKey?,
    _ body: ([RemoteObjectFacts]) throws(VMCheckpointError) -> Bool
  ) throws(VMCheckpointError) {
    _ = try RemoteListing.parts(ofPrefix: prefix)
    let whole = self.prefix + prefix
    var last = start.map { Array("\(self.prefix)\($0.text)".utf8) } ?? []
    // The order that the server has, as far as the keys so far show.
    var (isByBytes, isByParts) = (true, true)
    var token: String?
    var emptyPageCount = 0
    while true {
      var query = [("list-type", "2"), ("max-keys", "\(RemoteListing.maximumBatchCount)")]
      if !whole.isEmpty { query.append(("prefix", whole)) }
      if let token {
        query.append(("continuation-token", token))
      } else if let start {
        query.append(("start-after", self.prefix + start.text))
      }
      let (page, seconds) = try page(query)
      var batch: [RemoteObjectFacts] = []
      for object in page.objects {
        isByBytes = isByBytes && last.lexicographicallyPrecedes(object.key)
        isByParts = isByParts && RemoteListing.precedesByParts(last, object.key)
        guard isByBytes || isByParts else {
          throw session.failure("the server does not list keys in their order", "list", whole)
        }
        guard object.key.starts(with: whole.utf8) else {
          throw session.failure("the server lists keys that were not asked for", "list", whole)
        }
        last = object.key
        // What others put there under names of their own is not the remote's.
        let text = String(decoding: object.key.dropFirst(self.prefix.utf8.count), as: UTF8.self)
        guard let key = RemoteKey(text) else { continue }
        batch.append(
          RemoteObjectFacts(
            key: key,
            byteCount: object.byteCount,
            modifiedSeconds: object.modifiedSeconds,
            serverSeconds: seconds
          )
        )
      }
      if !batch.isEmpty, try !body(batch) { return }
      guard let next = page.continuationToken else { return }
      // Each page goes on after the one before, or has nothing; a server may not go on so for ever.
      emptyPageCount = page.objects.isEmpty ? emptyPageCount + 1 : 0
      guard next != token, emptyPageCount < 1000 else {
        throw session.failure("the server's list does not end", "list", whole)
      }
      token = next
    }
  }

  /// One page, and the server's time.
  private func page(
    _ query: [(String, String)]
  ) throws(VMCheckpointError) -> (S3ListPage, seconds: Int64) {
    let title = query.first { $0.0 == "prefix" }?.1 ?? ""
    let request = S3Request(
      method: "GET",
      key: "",
      query: query,
      maximumByteCount: S3ListPage.maximumByteCount
    )
    let answer = try session.send(request, for: title)!
    if let problem = answer.problem(besides: [200]) {
      throw session.failure(problem, "list", title)
    }
    guard let seconds = answer.head.serverSeconds else {
      throw session.failure("the server does not say what the time is", "list", title)
    }
    do throws(XMLScanner.Malformed) {
      return (try S3ListPage(xml: answer.body), seconds)
    } catch {
      throw session.failure("the server's list is cut short or not a list", "list", title)
    }
  }
}
