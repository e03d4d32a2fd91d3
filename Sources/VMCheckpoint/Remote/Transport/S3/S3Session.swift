import Glibc
import Synchronization

/// A request to a bucket, before it is signed.
struct S3Request {
  var method: String
  /// In the bucket, with the remote's prefix; empty for the bucket itself.
  var key: String
  var query: [(String, String)] = []
  /// Beside those that every request has; names in small letters.
  var headers: [(String, String)] = []
  var body: UnsafeRawBufferPointer?
  /// Where the body of an answer 200 or 206 goes.
  var buffer: UnsafeMutableRawBufferPointer?
  /// What is wrong with the head of such an answer.
  var accepts: (HTTPResponseHead) -> String? = { _ in nil }
  /// Of any other body.
  var maximumByteCount = S3ErrorDocument.maximumByteCount
}

/// A server's answer to one.
struct S3Answer {
  var head: HTTPResponseHead
  var bufferByteCount: Int
  var body: [UInt8]
  /// Of a status from 300 on.
  var error: S3ErrorDocument?

  /// What the answer says against the request; `nil` for one of these statuses.
  func problem(besides statuses: [Int]) -> String? {
    guard !statuses.contains(head.status) else { return nil }
    return "the server answered \(head.status)" + (error?.code.map { " \($0)" } ?? "")
  }
}

/// Signs requests to one bucket, sends them, and tries again what may go through later.
final class S3Session: Sendable {
  /// More than a host's clock may be off by, by the servers' rule.
  private static let maximumSkewSeconds: Int64 = 300
  /// A server that never answered is asked so often.
  private static let firstAttemptCount = 3
  private static let maximumAttemptCount = 100
  /// A request that failed twice, or took so long, is told of.
  private static let noticeSeconds = 3.0

  let counts = Mutex(RemoteRequestCounts())

  private let title: String
  private let bucket: String
  private let region: String
  private let endpoint: RemoteEndpoint
  private let isBucketsOwn: Bool
  private let credentials: RemoteCredentials
  private let client: HTTPClient
  private let notice: RetryNotice
  private let options: RemoteOptions
  /// What is added to this host's clock.
  private let skewSeconds = Atomic<Int64>(0)
  private let didWarnOfSkew = Atomic(false)
  private let hasAnswered = Atomic(false)
  private let hasBucket = Atomic(false)

  init(bucket: String, title: String, options: RemoteOptions) throws(VMCheckpointError) {
    self.bucket = bucket
    self.title = title
    self.options = options
    var region: String? = options.region
    if region == nil { region = try options.credentials.region() }
    if let endpoint = options.endpoint {
      self.region = region ?? "us-east-1"
      (self.endpoint, isBucketsOwn) = (endpoint, false)
    } else {
      guard let region else {
        throw VMCheckpointError(
          .invalidArgument,
          "the region of \(title) is not known",
          hint: "name it, or set AWS_REGION; for a server that is not AWS's, name its endpoint"
        )
      }
      self.region = region
      (endpoint, isBucketsOwn) = RemoteEndpoint.aws(bucket: bucket, region: region)
    }
    guard (1...64).contains(self.region.utf8.count), self.region.utf8.allSatisfy(Self.isOfRegion)
    else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(quotedName(self.region, maximumScalarCount: 100)) is not a region",
        hint: "a region has small letters, digits and hyphens, as us-east-1"
      )
    }
    guard endpoint.isSecure || endpoint.isLoopback || options.allowsPlainHTTP else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(endpoint) would send the memory of guests over the network in the clear",
        hint: "use an endpoint with https, or say that plain HTTP is meant"
      )
    }
    credentials = try options.credentials.credentials()
    notice = RetryNotice(title, options.saysRetries ? options.onWarning : nil)
    client = try HTTPClient(
      HTTPClient.Options(
        caFile: options.caFile,
        allowsPlainHTTP: !endpoint.isSecure,
        connectTimeoutSeconds: options.connectTimeoutSeconds,
        stallTimeoutSeconds: options.stallTimeoutSeconds,
        limit: options.limitBytesPerSecond.map { RateLimit(bytesPerSecond: $0) },
        cancellation: options.cancellation
      )
    )
  }

  private static func isOfRegion(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
      || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "-")
  }

  // MARK: Sending

  /// Sends a request until the server has answered it for good.
  ///
  /// - Parameters:
  ///   - name: Of the object, for messages.
  ///   - isSettled: Asked after a request whose answer was lost: whether it did its work.
  /// - Returns: `nil` when it did, and there is no answer.
  /// - Throws: ``VMCheckpointError``: `unavailable`, `permissionDenied`, `invalidData`, `cancelled`.
  func send(
    _ request: S3Request,
    for name: String,
    isSettled: (() throws(VMCheckpointError) -> Bool)? = nil
  ) throws(VMCheckpointError) -> S3Answer? {
    let start = MonotonicClock.nowSeconds
    let deadline = start + options.retrySeconds
    var attempt = 0
    while true {
      attempt += 1
      try options.cancellation.check()
      let reason: String
      var retryAfterSeconds: Int?
      do throws(HTTPFailure) {
        let answer = try sendOnce(request) {
          notice.note(
            "it sends nothing",
            beganSeconds: start,
            remainingSeconds: deadline - MonotonicClock.nowSeconds
          )
        }
        hasAnswered.store(true, ordering: .relaxed)
        switch try judge(answer, of: request, attempt: attempt) {
        case .final:
          if answer.head.status < 300 { hasBucket.store(true, ordering: .relaxed) }
          notice.end()
          return answer
        case .again(let problem):
          (reason, retryAfterSeconds) = (problem, answer.head.retryAfterSeconds)
        case .againAtOnce:
          counts.withLock { $0.retries += 1 }
          continue
        }
      } catch {
        switch error {
        case .cancelled: throw VMCheckpointError(.cancelled, "interrupted")
        case .fatal(let error): throw error
        case .invalid(let problem): throw failure(problem, Self.verb(request), name)
        case .connection(let problem, let mayHaveArrived):
          reason = problem
          if mayHaveArrived, let isSettled, try isSettled() { return nil }
        }
      }
      let isOver =
        MonotonicClock.nowSeconds >= deadline || attempt >= Self.maximumAttemptCount
        || (!hasAnswered.load(ordering: .relaxed) && attempt >= Self.firstAttemptCount)
      guard !isOver else {
        throw VMCheckpointError(
          .unavailable,
          "the object store at \(endpoint) does not answer as it should, "
            + "after \(attempt) \(attempt == 1 ? "try" : "tries"): \(reason)",
          hint: "check the endpoint and the network, and try again"
        )
      }
      counts.withLock { $0.retries += 1 }
      let now = MonotonicClock.nowSeconds
      if now - start >= Self.noticeSeconds
        || attempt >= 2 && hasAnswered.load(ordering: .relaxed)
      {
        notice.note(reason, beganSeconds: start, remainingSeconds: deadline - now)
      }
      try pause(attempt: attempt, retryAfterSeconds: retryAfterSeconds)
    }
  }

  private enum Judgement {
    /// The caller sees it.
    case final
    case again(String)
    case againAtOnce
  }

  /// Whether an answer is for good.
  private func judge(
    _ answer: S3Answer,
    of request: S3Request,
    attempt: Int
  ) throws(HTTPFailure) -> Judgement {
    let code = answer.error?.code
    switch answer.head.status {
    case ..<300: return .final
    case 301, 302, 303, 307, 308: throw .fatal(elsewhere(answer))
    case 400 where code == "AuthorizationHeaderMalformed" && answer.error?.region != nil:
      throw .fatal(elsewhere(answer))
    // Without a body the answer does not say why: the region, or a request that came too slowly.
    case 400 where request.method == "HEAD":
      if let region = answer.head.bucketRegion, region != self.region {
        throw .fatal(elsewhere(answer))
      }
      return .again(answer.problem(besides: [])!)
    case 400
    where ["BadDigest", "RequestTimeout", "IncompleteBody", "XAmzContentSHA256Mismatch"]
      .contains(code):
      return .again(answer.problem(besides: [])!)
    case 401, 403:
      if adoptClock(of: answer, attempt: attempt) { return .againAtOnce }
      throw .fatal(refused(answer))
    case 404 where code == "NoSuchBucket": throw .fatal(noBucket())
    case 408, 425, 429, 500, 502, 503, 504, 507, 509: return .again(answer.problem(besides: [])!)
    case 409 where code == "OperationAborted": return .again(answer.problem(besides: [])!)
    default: return .final
    }
  }

  /// - Parameter onStall: Called while nothing comes or goes.
  private func sendOnce(
    _ request: S3Request,
    onStall: () -> Void
  ) throws(HTTPFailure) -> S3Answer {
    counts.withLock { counts in
      switch request.method {
      case "PUT": counts.puts += 1
      case "HEAD": counts.heads += 1
      case "DELETE": counts.deletes += 1
      default:
        if request.key.isEmpty { counts.lists += 1 } else { counts.gets += 1 }
      }
      counts.sentByteCount += UInt64(request.body?.count ?? 0)
    }
    let response = try client.send(
      try signed(request),
      into: request.buffer ?? .init(start: nil, count: 0),
      bufferStatuses: request.buffer == nil ? [] : [200, 206],
      accepts: request.accepts,
      maximumByteCount: request.maximumByteCount,
      onStall: onStall
    )
    let received = UInt64(response.bufferByteCount + response.body.count)
    counts.withLock { $0.receivedByteCount += received }
    return S3Answer(
      head: response.head,
      bufferByteCount: response.bufferByteCount,
      body: response.body,
      error: response.head.status >= 300 ? S3ErrorDocument(xml: response.body) : nil
    )
  }

  private func signed(_ request: S3Request) throws(HTTPFailure) -> HTTPRequest {
    let now = Int64(time(nil)) + skewSeconds.load(ordering: .relaxed)
    let signature = S3Signature(region: region, seconds: now)
    var path = isBucketsOwn ? "/" : "/\(bucket)"
    if !request.key.isEmpty { path += "\(isBucketsOwn ? "" : "/")\(request.key)" }
    path = S3Signature.encoded(path, keepsSlash: true)
    // A body is checked by its MD5, which is signed: so no byte of it is hashed a second time.
    let payload = request.body == nil ? S3Signature.emptyPayload : S3Signature.unsignedPayload
    var headers = request.headers
    headers.append(("x-amz-content-sha256", payload))
    headers.append(("x-amz-date", signature.date))
    if let token = credentials.sessionToken { headers.append(("x-amz-security-token", token)) }
    let authorization: String
    do throws(VMCheckpointError) {
      authorization = try signature.authorization(
        method: request.method,
        path: path,
        query: request.query,
        headers: headers + [("host", endpoint.authority)],
        payload: payload,
        credentials: credentials
      )
    } catch {
      throw .fatal(error)
    }
    let query = request.query.isEmpty ? "" : "?\(S3Signature.queryText(request.query))"
    return HTTPRequest(
      method: request.method,
      url: "\(endpoint)\(path)\(query)",
      headers: headers + [("authorization", authorization)],
      body: request.body
    )
  }

  /// Waits before another try: longer each time, and not as long as others that wait.
  private func pause(attempt: Int, retryAfterSeconds: Int?) throws(VMCheckpointError) {
    let longest = min(5, 0.1 * Double(1 << min(attempt - 1, 10)))
    var seconds = Double.random(in: longest / 2...longest)
    if let retryAfterSeconds { seconds = max(seconds, Double(min(max(0, retryAfterSeconds), 10))) }
    let end = MonotonicClock.nowSeconds + seconds
    while true {
      try options.cancellation.check()
      let left = end - MonotonicClock.nowSeconds
      if left <= 0 { return }
      usleep(UInt32(min(left, 0.05) * 1e6))
    }
  }

  /// Takes the server's clock when ours is so far off that it refuses signatures.
  ///
  /// - Returns: Whether to try again with it.
  private func adoptClock(of answer: S3Answer, attempt: Int) -> Bool {
    guard let theirs = answer.head.serverSeconds, attempt <= 3 else { return false }
    let host = Int64(time(nil))
    let skew = theirs - host
    guard abs(skew - skewSeconds.load(ordering: .relaxed)) > Self.maximumSkewSeconds else {
      return false
    }
    skewSeconds.store(skew, ordering: .relaxed)
    if !didWarnOfSkew.exchange(true, ordering: .relaxed) {
      let minutes = (abs(skew) + 30) / 60
      options.onWarning?(
        "this host's clock is \(minutes) minutes \(skew > 0 ? "behind" : "ahead of") that of the "
          + "object store at \(endpoint); its requests are signed with the server's time"
      )
    }
    return true
  }

  // MARK: Errors

  /// Makes sure, once, that the bucket is there.
  func checkBucket() throws(VMCheckpointError) {
    guard !hasBucket.load(ordering: .relaxed) else { return }
    let query = [("list-type", "2"), ("max-keys", "1")]
    let answer = try send(S3Request(method: "GET", key: "", query: query), for: "")!
    if let problem = answer.problem(besides: [200]) { throw failure(problem, "list", "") }
  }

  private static func verb(_ request: S3Request) -> String {
    switch request.method {
    case "PUT": "put"
    case "HEAD": "look at"
    case "DELETE": "delete"
    default: request.key.isEmpty ? "list" : "read"
    }
  }

  /// An answer that cannot be right.
  func failure(_ problem: String, _ verb: String, _ name: String) -> VMCheckpointError {
    let object = name.isEmpty ? "" : " \(quotedName(name))"
    return VMCheckpointError(.invalidData, "cannot \(verb)\(object) in \(title): \(problem)")
  }

  private func noBucket() -> VMCheckpointError {
    VMCheckpointError(
      .unavailable,
      "the object store at \(endpoint) has no bucket \(quotedName(bucket))",
      hint: "make it with the server's own tools, or correct the address"
    )
  }

  private func refused(_ answer: S3Answer) -> VMCheckpointError {
    let hint =
      switch answer.error?.code {
      case "InvalidAccessKeyId"?: "check AWS_ACCESS_KEY_ID, and that it is a key of this server"
      case "SignatureDoesNotMatch"?: "check AWS_SECRET_ACCESS_KEY, and the region"
      case "ExpiredToken"?, "InvalidToken"?: "renew the temporary credentials and AWS_SESSION_TOKEN"
      default: "check the credentials, and what the server lets them do in this bucket"
      }
    return VMCheckpointError(
      .permissionDenied,
      "the object store at \(endpoint) refuses access to \(title): "
        + answer.problem(besides: [])!,
      hint: hint
    )
  }

  /// The bucket is in another region, or on another host. Credentials do not follow.
  private func elsewhere(_ answer: S3Answer) -> VMCheckpointError {
    let region = answer.head.bucketRegion ?? answer.error?.region
    let host = answer.error?.endpoint ?? answer.head.location.flatMap(Self.host)
    let place: String?
    let hint: String
    if let region, region != self.region {
      place = "in the region \(quotedName(region, maximumScalarCount: 100))"
      hint = "use that region for this remote"
    } else if let host {
      place = "at \(quotedName(host, maximumScalarCount: 255))"
      hint = "use that endpoint, if you know it"
    } else {
      place = nil
      hint = "check the endpoint and the region"
    }
    return VMCheckpointError(
      .unavailable,
      "the bucket of \(title) is "
        + (place.map { "\($0), and not where it was asked for" } ?? "elsewhere")
        + " (the server answered \(answer.head.status))",
      hint: hint
    )
  }

  /// Scheme and host of a URL.
  private static func host(of location: String) -> String? {
    for scheme in ["https://", "http://"] where location.lowercased().hasPrefix(scheme) {
      let host = location.dropFirst(scheme.count).prefix { !"/?#@".contains($0) }
      return host.isEmpty ? nil : scheme + host
    }
    return nil
  }
}
