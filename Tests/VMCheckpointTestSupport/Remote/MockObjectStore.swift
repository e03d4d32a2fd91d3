import Foundation
import Glibc
import Synchronization
import VMCheckpoint

/// A small server of the S3 protocol in this process, on loopback, for the faults that real servers cannot be made to
/// have. It does not check signatures: real servers do.
package final class MockObjectStore: Sendable {
  /// What goes wrong with one request.
  package enum Fault: Sendable {
    /// An answer without anything done.
    case status(Int, code: String? = nil, headers: [String: String] = [:], xml: String = "")
    /// The connection is reset, and nothing was done.
    case reset
    /// The work is done, and the connection is reset without an answer.
    case lostReply
    /// Half of the body, then a reset.
    case resetInBody
    /// Half of the body, then nothing more.
    case stall
    /// Half of the body, then the end.
    case shortBody
    /// More than the length that the headers give, then the end.
    case longBody
    /// Another range than the one asked for, and so labelled.
    case wrongRange
    /// A body of other bytes than the range that is labelled: one less.
    case wrongLength
    /// The whole object for any range.
    case ignoredRange
    /// This body, with a right length.
    case body(String)
    /// These bytes, in place of any answer.
    case raw([UInt8])
    /// Without the header `Date`, and others of an object.
    case noFacts
    /// The right answer, but not before the gate is open.
    case held(MockGate)
  }

  /// What a fault is decided on.
  package struct Request: Sendable {
    package var method: String
    package var path: String
    package var query: [String: String]
    package var headers: [String: String]
    package var body: [UInt8]
    /// From 0 on, of all that came.
    package var number: Int
  }

  private struct Object: Sendable {
    var bytes: [UInt8]
    var modifiedSeconds: Int64
  }

  private struct State: Sendable {
    var objects: [String: Object] = [:]
    var requests: [Request] = []
    var clockOffsetSeconds: Int64 = 0
    var pageSize = 1000
    var fault: @Sendable (Request) -> Fault? = { _ in nil }
    var connections: Set<Int32> = []
    var acceptedCount = 0
    var isStopped = false
  }

  package let bucket = "mock-bucket"
  package let port: UInt16
  private let listener: Int32
  private let state = Mutex(State())

  package init() throws {
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let listener = listener
    let result = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        bind(listener, address, length) == 0 && listen(listener, 64) == 0
          && getsockname(listener, address, &length) == 0
      }
    }
    guard result else { throw TestSetupError("cannot listen on loopback") }
    port = UInt16(bigEndian: address.sin_port)
    let thread = Thread { [weak self] in
      while true {
        let connection = accept(listener, nil, nil)
        guard connection >= 0 else {
          // Here and not where it is shut down: the number would be another test's before this thread looks again.
          close(listener)
          return
        }
        guard let server = self else {
          close(connection)
          close(listener)
          return
        }
        server.serve(connection)
      }
    }
    thread.start()
  }

  deinit { stop() }

  /// Ends it: connections are closed, and nobody is let in.
  package func stop() {
    state.withLock { state in
      guard !state.isStopped else { return }
      state.isStopped = true
      shutdown(listener, Int32(SHUT_RDWR))
      // Under the lock, so that none of them is closed meanwhile.
      for connection in state.connections { shutdown(connection, Int32(SHUT_RDWR)) }
    }
  }

  package var endpoint: String { "http://127.0.0.1:\(port)" }

  /// All requests so far.
  package var requests: [Request] { state.withLock { $0.requests } }

  /// Connections so far.
  package var acceptedCount: Int { state.withLock { $0.acceptedCount } }

  /// Decides what goes wrong with each request from now on.
  package func setFault(_ fault: @escaping @Sendable (Request) -> Fault?) {
    state.withLock { $0.fault = fault }
  }

  /// Lets the next `count` requests with a method go wrong.
  package func fail(_ method: String, count: Int = 1, _ fault: Fault) {
    let left = MockCounter(count)
    setFault { $0.method == method && left.take() ? fault : nil }
  }

  package func setClock(offsetSeconds: Int64) {
    state.withLock { $0.clockOffsetSeconds = offsetSeconds }
  }

  package func setPageSize(_ size: Int) { state.withLock { $0.pageSize = size } }

  /// The bytes under a key of the bucket.
  package func object(_ key: String) -> [UInt8]? { state.withLock { $0.objects[key]?.bytes } }

  /// The keys that begin with `prefix`.
  package func keys(_ prefix: String) -> [String] {
    state.withLock { $0.objects.keys.filter { $0.hasPrefix(prefix) }.sorted() }
  }

  package func setObject(_ key: String, _ bytes: [UInt8]) {
    state.withLock { $0.objects[key] = Object(bytes: bytes, modifiedSeconds: Self.now($0)) }
  }

  private static func now(_ state: State) -> Int64 {
    Int64(time(nil)) + state.clockOffsetSeconds
  }

  // MARK: Connections

  private func serve(_ connection: Int32) {
    let isOpen = state.withLock { state in
      state.acceptedCount += 1
      if !state.isStopped { state.connections.insert(connection) }
      return !state.isStopped
    }
    guard isOpen else {
      close(connection)
      return
    }
    let thread = Thread { [weak self] in
      var stream = MockStream(connection)
      while let request = stream.request(), let server = self {
        guard server.answer(request, on: stream) else { break }
      }
      _ = self?.state.withLock { $0.connections.remove(connection) }
      close(connection)
    }
    thread.start()
  }

  /// - Returns: Whether the connection stays open.
  private func answer(_ request: Request, on stream: MockStream) -> Bool {
    var request = request
    let fault = state.withLock { state -> Fault? in
      request.number = state.requests.count
      state.requests.append(request)
      return state.fault(request)
    }
    switch fault {
    case .held(let gate): gate.wait()
    case .reset:
      stream.reset()
      return false
    case .lostReply:
      _ = perform(request)
      stream.reset()
      return false
    case .raw(let bytes):
      stream.send(bytes)
      return false
    case .status(let status, let code, let headers, let xml):
      let body =
        code.map { "<?xml version=\"1.0\"?><Error><Code>\($0)</Code>\(xml)</Error>" } ?? ""
      var answer = MockAnswer(status: status, body: Array(body.utf8))
      answer.headers.merge(headers) { $1 }
      stream.send(bytes(answer, request))
      return true
    default: break
    }
    var answer = perform(
      request,
      ignoresRange: { if case .ignoredRange = fault { true } else { false } }()
    )
    switch fault {
    case .wrongRange:
      answer.headers["Content-Range"] = "bytes 1-\(answer.body.count)/\(answer.body.count + 100)"
    case .wrongLength: answer.body.removeLast()
    case .body(let text): answer.body = Array(text.utf8)
    case .noFacts: answer.hasFacts = false
    default: break
    }
    let all = bytes(answer, request)
    let bodyCount = request.method == "HEAD" ? 0 : answer.body.count
    let half = Array(all.prefix(all.count - bodyCount + bodyCount / 2))
    switch fault {
    case .resetInBody:
      stream.send(half)
      usleep(20_000)
      stream.reset()
      return false
    case .stall:
      stream.send(half)
      stream.waitForEnd()
      return false
    case .shortBody:
      stream.send(half)
      return false
    case .longBody:
      stream.send(all + [UInt8](repeating: 0x55, count: 1000))
      return false
    default:
      stream.send(all)
      return true
    }
  }

  // MARK: The protocol

  private struct MockAnswer {
    var status: Int
    var headers: [String: String] = [:]
    var body: [UInt8] = []
    var hasFacts = true

    static func error(_ status: Int, _ code: String) -> MockAnswer {
      MockAnswer(status: status, body: Array("<Error><Code>\(code)</Code></Error>".utf8))
    }
  }

  private func bytes(_ answer: MockAnswer, _ request: Request) -> [UInt8] {
    var text = "HTTP/1.1 \(answer.status) Words\r\nContent-Length: \(answer.body.count)\r\n"
    let now = state.withLock { Self.now($0) }
    if answer.hasFacts { text += "Date: \(Self.headerDate(now))\r\n" }
    for (name, value) in answer.headers where answer.hasFacts || name != "Last-Modified" {
      text += "\(name): \(value)\r\n"
    }
    return Array("\(text)\r\n".utf8) + (request.method == "HEAD" ? [] : answer.body)
  }

  private func perform(_ request: Request, ignoresRange: Bool = false) -> MockAnswer {
    state.withLock { state in
      let now = Self.now(state)
      let date = request.headers["x-amz-date"] ?? ""
      guard date <= ServerTime.compactText(now + 900), date >= ServerTime.compactText(now - 900)
      else { return .error(403, "RequestTimeTooSkewed") }
      guard request.path.hasPrefix("/\(bucket)") else { return .error(404, "NoSuchBucket") }
      let key = String(request.path.dropFirst(bucket.utf8.count + 2))
      switch request.method {
      case "PUT":
        let sum = request.headers["content-md5"]
        guard sum == Data(Self.md5(request.body)).base64EncodedString() else {
          return .error(400, "BadDigest")
        }
        state.objects[key] = Object(bytes: request.body, modifiedSeconds: now)
        return MockAnswer(status: 200, headers: ["ETag": Self.tag(request.body)])
      case "DELETE":
        state.objects[key] = nil
        return MockAnswer(status: 204)
      case "GET" where key.isEmpty: return list(request, state)
      default:
        guard let object = state.objects[key] else { return .error(404, "NoSuchKey") }
        return read(request, object, ignoresRange: ignoresRange)
      }
    }
  }

  private func read(_ request: Request, _ object: Object, ignoresRange: Bool) -> MockAnswer {
    var answer = MockAnswer(status: 200, body: object.bytes)
    answer.headers["ETag"] = Self.tag(object.bytes)
    answer.headers["Last-Modified"] = Self.headerDate(object.modifiedSeconds)
    guard let range = request.headers["range"]?.dropFirst(6), !ignoresRange else { return answer }
    let ends = range.split(separator: "-", omittingEmptySubsequences: false)
    let count = object.bytes.count
    let first = ends[0].isEmpty ? max(0, count - Int(ends[1])!) : Int(ends[0])!
    let last = ends[0].isEmpty ? count - 1 : min(count - 1, Int(ends[1])!)
    guard first <= last else {
      var answer = MockAnswer.error(416, "InvalidRange")
      answer.headers["Content-Range"] = "bytes */\(count)"
      return answer
    }
    answer.status = 206
    answer.headers["Content-Range"] = "bytes \(first)-\(last)/\(count)"
    answer.body = Array(object.bytes[first...last])
    return answer
  }

  private func list(_ request: Request, _ state: State) -> MockAnswer {
    let prefix = request.query["prefix"] ?? ""
    let start = request.query["continuation-token"] ?? request.query["start-after"] ?? ""
    let limit = min(state.pageSize, Int(request.query["max-keys"] ?? "") ?? 1000)
    func precedes(_ first: String, _ second: String) -> Bool {
      first.utf8.lexicographicallyPrecedes(second.utf8)
    }
    let keys = state.objects.keys.filter { $0.hasPrefix(prefix) && precedes(start, $0) }
      .sorted(by: precedes)
    var xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://x/\">"
    xml += "<Name>\(bucket)</Name><Prefix>\(prefix)</Prefix><KeyCount>1</KeyCount>"
    xml += "<IsTruncated>\(keys.count > limit)</IsTruncated>"
    if keys.count > limit {
      xml += "<NextContinuationToken>\(keys[limit - 1])</NextContinuationToken>"
    }
    for key in keys.prefix(limit) {
      let object = state.objects[key]!
      xml += "<Contents><Key>\(Self.escaped(key))</Key><LastModified>"
      xml += "\(UTCTime.text(secondsSince1970: Int(object.modifiedSeconds)).dropLast()).987Z"
      xml +=
        "</LastModified><ETag>&quot;\(Self.tag(object.bytes).dropFirst().dropLast())&quot;</ETag>"
      xml += "<Size>\(object.bytes.count)</Size><Owner><ID>me</ID></Owner>"
      xml += "<StorageClass/></Contents>"
    }
    return MockAnswer(status: 200, body: Array("\(xml)</ListBucketResult>".utf8))
  }

  private static func md5(_ bytes: [UInt8]) -> [UInt8] {
    bytes.withUnsafeBytes { MD5Hash.hash($0) }
  }

  private static func tag(_ bytes: [UInt8]) -> String { "\"\(hexadecimal(md5(bytes)))\"" }

  private static func escaped(_ text: String) -> String {
    text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
  }

  /// As RFC 9110 has it, without the product's own code.
  private static func headerDate(_ seconds: Int64) -> String {
    let format = DateFormatter()
    format.locale = Locale(identifier: "en_US_POSIX")
    format.timeZone = TimeZone(identifier: "GMT")
    format.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
    return format.string(from: Date(timeIntervalSince1970: Double(seconds)))
  }
}

/// What holds answers back until it is opened, once.
package final class MockGate: Sendable {
  private let semaphore = DispatchSemaphore(value: 0)

  package init() {}

  package func open() { semaphore.signal() }

  fileprivate func wait() {
    semaphore.wait()
    // For the next one that waits.
    semaphore.signal()
  }
}

/// How many times something is still to happen.
package final class MockCounter: Sendable {
  private let left: Mutex<Int>

  package init(_ count: Int) { left = Mutex(count) }

  package func take() -> Bool {
    left.withLock { left in
      guard left > 0 else { return false }
      left -= 1
      return true
    }
  }
}

/// One connection.
private struct MockStream {
  private let descriptor: Int32
  private var buffer: [UInt8] = []

  init(_ descriptor: Int32) { self.descriptor = descriptor }

  /// The next request; `nil` at the end.
  mutating func request() -> MockObjectStore.Request? {
    let mark = Array("\r\n\r\n".utf8)
    var end = 0
    while true {
      if let found = buffer.indices.first(where: { buffer[$0...].starts(with: mark) }) {
        end = found + 4
        break
      }
      guard buffer.count < 1 << 16, receive() else { return nil }
    }
    let lines = String(decoding: buffer[..<(end - 4)], as: UTF8.self).split(separator: "\r\n")
    let words = lines[0].split(separator: " ")
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      guard let colon = line.firstIndex(of: ":") else { return nil }
      headers[line[..<colon].lowercased()] =
        line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
    }
    let length = Int(headers["content-length"] ?? "0") ?? 0
    while buffer.count < end + length {
      guard receive() else { return nil }
    }
    let body = Array(buffer[end..<end + length])
    buffer.removeFirst(end + length)
    let target = words[1].split(separator: "?", maxSplits: 1)
    var query: [String: String] = [:]
    for part in target.count > 1 ? target[1].split(separator: "&") : [] {
      let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      query[String(pair[0])] = pair.count > 1 ? pair[1].removingPercentEncoding : ""
    }
    return MockObjectStore.Request(
      method: String(words[0]),
      path: target[0].removingPercentEncoding ?? "",
      query: query,
      headers: headers,
      body: body,
      number: 0
    )
  }

  private mutating func receive() -> Bool {
    var part = [UInt8](repeating: 0, count: 1 << 18)
    let count = recv(descriptor, &part, part.count, 0)
    guard count > 0 else { return false }
    buffer += part[..<count]
    return true
  }

  func send(_ bytes: [UInt8]) {
    var done = 0
    while done < bytes.count {
      let count = bytes[done...].withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { return }
      done += count
    }
  }

  /// Closing sends a reset.
  func reset() {
    var option = linger(l_onoff: 1, l_linger: 0)
    setsockopt(
      descriptor,
      SOL_SOCKET,
      SO_LINGER,
      &option,
      socklen_t(MemoryLayout<linger>.size)
    )
  }

  /// Waits until the other side has closed.
  func waitForEnd() {
    var byte: UInt8 = 0
    while recv(descriptor, &byte, 1, 0) > 0 {}
  }
}
