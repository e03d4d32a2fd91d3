import Glibc
import Synchronization
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// What a transport makes of servers and networks that fail.
@Suite struct S3FaultTests {
  private let server: MockObjectStore
  private let transport: any RemoteTransport
  private let warnings = Warnings()

  private final class Warnings: Sendable {
    private let list = Mutex<[String]>([])
    var all: [String] { list.withLock { $0 } }
    func append(_ text: String) { list.withLock { $0.append(text) } }
  }

  init() throws {
    server = try MockObjectStore()
    let warnings = warnings
    var options = RemoteOptions { warnings.append($0) }
    options.retrySeconds = 300
    transport = try server.transport(options)
  }

  private let bytes = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }

  private func error(_ body: () throws -> Void) -> VMCheckpointError? {
    #expect(throws: VMCheckpointError.self, performing: body)
  }

  // MARK: What passes

  static let passing: [(name: String, fault: MockObjectStore.Fault)] = [
    ("500", .status(500, code: "InternalError")), ("503", .status(503, code: "SlowDown")),
    ("429", .status(429)), ("502 without a body", .status(502)),
    ("timeout", .status(400, code: "RequestTimeout")), ("reset", .reset),
  ]

  @Test(arguments: passing.indices)
  func aFaultThatPassesCostsTriesAndNothingElse(_ index: Int) throws {
    let fault = Self.passing[index].fault
    for method in ["PUT", "GET", "HEAD", "DELETE"] {
      server.fail(method, count: 2, fault)
      try transport.put("a/b", bytes)
      #expect(try transport.get("a/b")?.bytes == bytes)
      #expect(try transport.keys("a/") == ["a/b"])
      #expect(try transport.head("a/b")?.byteCount == 10_000)
      try transport.delete("a/b")
      #expect(server.object("remote/a/b") == nil)
    }
    // libcurl itself sends a request without a body again when an open connection turns out to be closed.
    let retries = transport.requestCounts.retries
    #expect(Self.passing[index].name == "reset" ? (2...8).contains(retries) : retries == 8)
  }

  @Test(
    "whoever waits for a server that fails is told at once, and once, and then that it is an error"
  )
  func retriesAreTold() throws {
    try transport.put("a", bytes)
    #expect(warnings.all == [])
    server.fail("GET", .reset)
    #expect(try transport.get("a")?.bytes == bytes)
    #expect(warnings.all == [], "one request that fails once is not worth a word")
    server.fail("GET", count: 4, .status(503, code: "SlowDown"))
    #expect(try transport.get("a")?.bytes == bytes)
    #expect(warnings.all.count == 2, "\(warnings.all)")
    let told = try #require(warnings.all.first)
    for words in [transport.title, "503 SlowDown", "asked again for up to", "an error"] {
      #expect(told.contains(words), "\(told)")
    }
    // Some of its 300 seconds may have gone by.
    #expect(told.contains(/up to (300|2[5-9][0-9]) s/), "\(told)")
    #expect(warnings.all.last?.contains("answers again") == true, "\(warnings.all)")
    // Not again and again.
    server.fail("GET", count: 3, .status(503, code: "SlowDown"))
    #expect(try transport.get("a")?.bytes == bytes)
    #expect(warnings.all.count == 2, "\(warnings.all)")
  }

  @Test("whoever waits for a server that sends nothing is told before it is tried again")
  func stallsAreTold() throws {
    let warnings = warnings
    var options = RemoteOptions { warnings.append($0) }
    options.stallTimeoutSeconds = 20
    let transport = try server.transport(options)
    try transport.put("a", bytes)
    server.fail("GET", .stall)
    let thread = ThreadResult { try? transport.get("a")?.bytes }
    try waitUntil("it is said") { !warnings.all.isEmpty }
    #expect(transport.requestCounts.retries == 0)
    #expect(warnings.all.first?.contains("sends nothing") == true, "\(warnings.all)")
    #expect(thread.wait() == bytes)
  }

  @Test(arguments: ["reset", "short", "stall", "wrong length"])
  func aBodyThatIsCutIsReadAgain(_ kind: String) throws {
    var options = RemoteOptions()
    // One that is long enough for an answer to come on a busy machine.
    options.stallTimeoutSeconds = kind == "stall" ? 6 : 60
    let transport = try server.transport(options)
    try transport.put("a", bytes)
    let fault: MockObjectStore.Fault =
      switch kind {
      case "reset": .resetInBody
      case "short": .shortBody
      case "stall": .stall
      default: .wrongLength
      }
    server.fail("GET", fault)
    if kind == "wrong length" {
      // The server means it: its own headers contradict each other.
      let error = error { _ = try transport.get("a") }
      #expect(error?.code == .invalidData)
    } else {
      #expect(try transport.get("a")?.bytes == bytes)
      #expect(transport.requestCounts.retries == 1)
    }
    server.fail("GET", fault)
    #expect(try kind == "wrong length" || transport.keys() == ["a"])
  }

  @Test func aBodyThatArrivesDamagedIsSentAgain() throws {
    server.fail("PUT", .status(400, code: "BadDigest"))
    try transport.put("a", bytes)
    #expect(server.object("remote/a") == bytes)
    #expect(transport.requestCounts.puts == 2)
  }

  @Test func aPutWhoseReplyIsLostIsNotSentTwice() throws {
    server.fail("PUT", .lostReply)
    try transport.put("a", bytes)
    #expect(server.object("remote/a") == bytes)
    #expect(transport.requestCounts.puts == 1)
  }

  @Test func aBodyIsNotSentAgainUnseenOnAConnectionThatWasOpen() throws {
    try transport.put("a", bytes)
    server.fail("PUT", .lostReply)
    try transport.put("b", bytes)
    #expect(server.requests.filter { $0.method == "PUT" }.count == 2)
    #expect(server.object("remote/b") == bytes)
  }

  @Test func aPutThatDidNotWorkIsSentAgainWhenItsReplyIsLost() throws {
    server.setObject("remote/a", [1, 2, 3])
    server.fail("PUT", .reset)
    try transport.put("a", bytes)
    #expect(server.object("remote/a") == bytes)
    #expect(transport.requestCounts.puts == 2)
  }

  @Test func eachTryIsSignedAnew() throws {
    server.fail("PUT", .status(503, headers: ["Retry-After": "2"]))
    try transport.put("a", bytes)
    let dates = server.requests.filter { $0.method == "PUT" }.map { $0.headers["x-amz-date"] ?? "" }
    #expect(dates.count == 2)
    #expect(dates.first != dates.last)
    #expect(server.requests.allSatisfy { $0.headers["authorization"]?.hasPrefix("AWS4") == true })
  }

  @Test func aWaitThatTheServerAsksForIsKept() throws {
    server.fail("HEAD", .status(503, headers: ["Retry-After": "1"]))
    let start = monotonicSeconds()
    _ = try transport.head("a")
    #expect(monotonicSeconds() - start >= 1)
  }

  @Test func aServerThatStaysDownIsGivenUp() throws {
    var options = RemoteOptions()
    options.retrySeconds = 1
    let transport = try server.transport(options)
    try transport.put("a", bytes)
    server.setFault { _ in .status(503, code: "SlowDown") }
    let start = monotonicSeconds()
    let error = error { _ = try transport.get("a") }
    #expect(error?.code == .unavailable)
    #expect(error?.message.contains("503 SlowDown") == true)
    // The default is a minute.
    #expect(monotonicSeconds() - start < 45)
  }

  @Test func aServerThatIsNotThereIsGivenUpSoon() throws {
    server.stop()
    let start = monotonicSeconds()
    let error = error { try transport.put("a", bytes) }
    #expect(error?.code == .unavailable)
    #expect(error?.message.contains(server.endpoint) == true)
    #expect(monotonicSeconds() - start < 60)
  }

  // MARK: The clock

  @Test(arguments: [1200, -1200] as [Int64])
  func aClockThatIsOffIsCorrectedAndReportedOnce(_ offset: Int64) throws {
    server.setClock(offsetSeconds: offset)
    for key in ["a", "b"] {
      try transport.put(key, bytes)
      #expect(try transport.head(key)?.byteCount == 10_000)
    }
    let now = Int64(time(nil))
    let facts = try #require(try transport.head("a"))
    #expect(abs(facts.serverSeconds - now - offset) < 60)
    #expect(warnings.all.count == 1)
    #expect(
      warnings.all.first?.contains(offset > 0 ? "20 minutes behind" : "20 minutes ahead") == true
    )
    #expect(server.requests.count == 1 + 2 * 3 + 1)
  }

  // MARK: Refusals

  @Test func refusedCredentialsAreNotTriedAgain() throws {
    for (code, word) in [
      ("InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
      ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
      ("AccessDenied", "credentials"),
    ] {
      server.setFault { _ in .status(403, code: code) }
      let before = server.requests.count
      let error = error { try transport.put("a", bytes) }
      #expect(error?.code == .permissionDenied)
      #expect(error?.message.contains(code) == true && error?.hint?.contains(word) == true)
      #expect(error?.description.contains("TheSecretOfTheTests") == false)
      #expect(server.requests.count == before + 1)
    }
  }

  @Test func aBucketThatIsMissingIsNotAnEmptyRemote() throws {
    server.setFault { _ in .status(404, code: "NoSuchBucket") }
    for call: () throws -> Void in [
      { _ = try transport.head("a") }, { _ = try transport.get("a") },
      { _ = try transport.keys() }, { try transport.put("a", [1]) }, { try transport.delete("a") },
    ] {
      let error = error(call)
      #expect(error?.code == .unavailable)
      #expect(error?.message.contains(server.bucket) == true)
    }
  }

  @Test func credentialsDoNotFollowARedirect() throws {
    let other = try MockObjectStore()
    let cases: [(MockObjectStore.Fault, String)] = [
      (
        .status(301, code: "PermanentRedirect", headers: ["x-amz-bucket-region": "eu-west-1"]),
        "eu-west-1"
      ),
      (.status(307, headers: ["Location": "\(other.endpoint)/mock-bucket/a"]), other.endpoint),
      (
        .status(
          301,
          code: "PermanentRedirect",
          xml: "<Endpoint>bucket.s3.example.com</Endpoint>"
        ), "bucket.s3.example.com"
      ),
      (
        .status(400, code: "AuthorizationHeaderMalformed", xml: "<Region>ap-south-1</Region>"),
        "ap-south-1"
      ),
    ]
    for (fault, place) in cases {
      server.setFault { _ in fault }
      let before = server.requests.count
      let error = error { try transport.put("a", bytes) }
      #expect(error?.code == .unavailable)
      #expect(error?.message.contains(place) == true, "\(error?.message ?? "")")
      #expect(server.requests.count == before + 1)
    }
    #expect(other.requests.isEmpty)
  }

  // MARK: Answers that cannot be right

  @Test(arguments: ["other range", "whole object", "no facts", "long"])
  func wrongBytesAreNeverTakenForThoseAskedFor(_ kind: String) throws {
    try transport.put("a", bytes)
    let fault: MockObjectStore.Fault =
      switch kind {
      case "other range": .wrongRange
      case "whole object": .ignoredRange
      case "no facts": .noFacts
      default: .longBody
      }
    server.setFault { $0.method == "GET" ? fault : nil }
    if kind == "long" {
      // What comes behind an answer is not part of it, and ends the connection.
      #expect(
        try transport.get("a", .bytes(offset: 10, count: 100))?.bytes == Array(bytes[10..<110])
      )
      #expect(try transport.get("a", .bytes(offset: 0, count: 10))?.bytes == Array(bytes[..<10]))
      return
    }
    let error = error { _ = try transport.get("a", .bytes(offset: 10, count: 100)) }
    #expect(error?.code == .invalidData)
    #expect(transport.requestCounts.retries == 0)
  }

  static let lists: [(name: String, xml: String)] = [
    ("cut", "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>remote/a</Key>"),
    ("empty", ""), ("a page of words", "<html><body>Welcome</body></html>"),
    ("no end", "<ListBucketResult></ListBucketResult>"),
    (
      "truncated without a token",
      "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    ),
    (
      "bomb",
      "<!DOCTYPE x [<!ENTITY a \"aaaa\">]><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    ),
    (
      "wrong order",
      list(["remote/b", "remote/a"])
    ),
    ("twice", list(["remote/a", "remote/a"])), ("another's keys", list(["elsewhere/a"])),
    (
      "the same page for ever",
      "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
        + "</ListBucketResult>"
    ),
    (
      "no size",
      "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>remote/a</Key>"
        + "<LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>"
    ),
  ]

  private static func list(_ keys: [String]) -> String {
    "<ListBucketResult><IsTruncated>false</IsTruncated>"
      + keys.map {
        "<Contents><Key>\($0)</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
      }.joined() + "</ListBucketResult>"
  }

  @Test(arguments: lists.indices)
  func aListThatCannotBeRightDeletesNothing(_ index: Int) throws {
    let (name, xml) = Self.lists[index]
    server.setFault { $0.method == "GET" ? .body(xml) : nil }
    let error = error { _ = try transport.keys() }
    #expect(error?.code == .invalidData, "\(name)")
  }

  @Test func namesOfOthersInTheBucketAreNotListed() throws {
    try transport.put("a", [1])
    for key in ["remote/a b", "remote/é", "remote/x//y", "remote/../z", "remote/<&>", "elsewhere"] {
      server.setObject(key, [1])
    }
    try transport.put("z", [1])
    #expect(try transport.keys() == ["a", "z"])
  }

  @Test func aListComesInPages() throws {
    server.setPageSize(7)
    let keys = (0..<50).map { "k/\(100 + $0)" }
    for key in keys { server.setObject("remote/\(key)", [1, 2]) }
    let all = try transport.all("k/", after: "k/109")
    #expect(all.facts.map(\.key.text) == Array(keys[10...]))
    #expect(all.batchCount == 6 && transport.requestCounts.lists == 6)
  }

  @Test(arguments: [
    "huge", "many", "endless line", "not HTTP", "HTTP 0.9", "two lengths", "bad length",
  ])
  func headersThatNoServerSendsAreRefused(_ kind: String) throws {
    try transport.put("a", bytes)
    let text: String =
      switch kind {
      case "huge": "HTTP/1.1 200 OK\r\nX: \(String(repeating: "x", count: 90_000))\r\n\r\n"
      case "many":
        "HTTP/1.1 200 OK\r\n" + String(repeating: "X: y\r\n", count: 20_000)
          + "Content-Length: 0\r\n\r\n"
      case "endless line": "HTTP/1.1 200 OK\r\nX: \(String(repeating: "x", count: 2_000_000))"
      case "not HTTP": "220 mail.example.com ESMTP\r\n"
      case "HTTP 0.9": "hello, these are the bytes of an object"
      case "two lengths": "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"
      default: "HTTP/1.1 206 OK\r\nContent-Length: -1\r\n\r\nabcd"
      }
    server.setFault { _ in .raw(Array(text.utf8)) }
    var options = RemoteOptions()
    options.retrySeconds = 0.3
    options.stallTimeoutSeconds = 1
    let transport = try server.transport(options)
    let error = error { _ = try transport.get("a") }
    #expect(error.map { [.invalidData, .unavailable].contains($0.code) } == true, "\(kind)")
  }

  @Test func anAnswerWithoutEndDoesNotFillMemory() throws {
    let endless = String(repeating: "x", count: 9 << 20)
    server.setFault { _ in .body(endless) }
    #expect(error { _ = try transport.keys() }?.code == .invalidData)
    server.setFault { _ in .status(500, xml: "") }
  }

  // MARK: Cancelling and limits

  @Test func aCancelledWaitForAServerEndsSoon() throws {
    let flag = CancellationFlag()
    let transport = try server.transport(RemoteOptions(cancellation: flag))
    try transport.put("a", bytes)
    for fault in [MockObjectStore.Fault.stall, .status(503)] {
      let flag = CancellationFlag()
      let transport = try server.transport(RemoteOptions(cancellation: flag))
      server.setFault { $0.method == "GET" ? fault : nil }
      let before = server.requests.count
      let waiting = ThreadResult<VMCheckpointError.Code?> {
        do {
          _ = try transport.get("a")
          return nil
        } catch { return (error as? VMCheckpointError)?.code }
      }
      try waitUntil("the request came") { server.requests.count > before }
      let start = monotonicSeconds()
      flag.cancel()
      #expect(waiting.wait() == .cancelled)
      // A stall is given up after half a minute, and a server after a minute.
      #expect(monotonicSeconds() - start < 20)
    }
  }

  @Test(.slow) func aLimitHoldsInBothDirectionsForAllThreads() throws {
    var options = RemoteOptions()
    options.limitBytesPerSecond = 400_000
    let transport = try server.transport(options)
    let body = [UInt8](repeating: 3, count: 100_000)
    var start = monotonicSeconds()
    try onThreads(4, count: 4) { try transport.put("k\($0)", body) }
    #expect((0.8...20).contains(monotonicSeconds() - start))
    start = monotonicSeconds()
    try onThreads(4, count: 4) { _ = try transport.get("k\($0)") }
    #expect((0.8...20).contains(monotonicSeconds() - start))
  }

  // MARK: What is sent

  @Test func connectionsAreUsedAgain() throws {
    for index in 0..<20 { try transport.put("k\(index)", bytes) }
    #expect(server.acceptedCount == 1)
  }

  @Test func plainHTTPDoesNotLeaveThisHostUnasked() throws {
    for host in ["10.1.2.3", "example.com", "127.0.0.1.example.com", "[::2]", "0.0.0.0"] {
      var options = RemoteOptions()
      options.endpoint = try RemoteEndpoint("http://\(host):1234")
      let error = error { _ = try server.transport(options) }
      #expect(error?.code == .invalidArgument, "\(host)")
      options.allowsPlainHTTP = true
      _ = try server.transport(options)
    }
    for host in ["127.0.0.1", "localhost", "[::1]", "127.9.9.9"] {
      var options = RemoteOptions()
      options.endpoint = try RemoteEndpoint("http://\(host):1234")
      _ = try server.transport(options)
    }
  }

  @Test func aServerWithoutTLSDoesNotGetARequestForOneWithIt() throws {
    var options = RemoteOptions()
    options.endpoint = try RemoteEndpoint("https://127.0.0.1:\(server.port)")
    options.connectTimeoutSeconds = 0.5
    let transport = try server.transport(options)
    #expect(error { _ = try transport.head("a") }?.code == .unavailable)
    #expect(server.requests.isEmpty)
  }
}
