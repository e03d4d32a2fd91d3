import CCurl
import Glibc
import Synchronization

/// A request of HTTP as it is sent.
struct HTTPRequest {
  var method: String
  /// Scheme, host, path and query.
  var url: String
  /// Beside those that the client sets.
  var headers: [(String, String)] = []
  /// `nil` when the method has none.
  var body: UnsafeRawBufferPointer?
}

/// What a server answered.
struct HTTPResponse {
  var head: HTTPResponseHead
  /// Of an answer that goes to the caller's buffer: bytes in it.
  var bufferByteCount = 0
  /// Of any other: the body.
  var body: [UInt8] = []
}

/// Why there is no answer.
enum HTTPFailure: Error {
  case cancelled
  /// The server cannot be reached, or the connection was lost: another try may go through. With words for a message,
  /// and whether the request may have reached the server.
  case connection(String, mayHaveArrived: Bool)
  /// The answer is none that a server gives.
  case invalid(String)
  /// Another try fails as this one did.
  case fatal(VMCheckpointError)
}

/// Sends requests by libcurl: connections stay open, one for each thread that sends.
final class HTTPClient: Sendable {
  struct Options: Sendable {
    var caFile: String?
    var allowsPlainHTTP = false
    var connectTimeoutSeconds = 10.0
    /// A transfer that moves nothing for so long has failed.
    var stallTimeoutSeconds = 30
    var limit: RateLimit?
    var cancellation: CancellationFlag
  }

  private let library: CurlLibrary
  private let options: Options
  private let userAgent: String
  private let idle = Mutex<[HTTPConnection]>([])

  /// - Throws: ``VMCheckpointError`` with the code `unavailable` when libcurl is missing.
  init(_ options: Options) throws(VMCheckpointError) {
    library = try CurlLibrary.shared()
    self.options = options
    userAgent = "vmckpt/\(VMCheckpointVersion.current)"
  }

  /// Sends a request and takes the answer.
  ///
  /// - Parameters:
  ///   - buffer: Where the body goes of an answer with one of the statuses in `bufferStatuses`; `accepts` sees its
  ///     head first, and what it says against it ends the transfer.
  ///   - maximumByteCount: Of any other body.
  ///   - onStall: Called again and again while nothing came or went for some seconds.
  func send(
    _ request: HTTPRequest,
    into buffer: UnsafeMutableRawBufferPointer = .init(start: nil, count: 0),
    bufferStatuses: [Int] = [],
    accepts: @escaping (HTTPResponseHead) -> String? = { _ in nil },
    maximumByteCount: Int,
    onStall: () -> Void = {}
  ) throws(HTTPFailure) -> HTTPResponse {
    let connection = try take()
    defer { idle.withLock { $0.append(connection) } }
    let transfer = HTTPTransfer(
      request: request,
      buffer: buffer,
      bufferStatuses: bufferStatuses,
      accepts: accepts,
      maximumByteCount: maximumByteCount,
      options: options
    )
    return try connection.run(transfer, onStall: onStall)
  }

  private func take() throws(HTTPFailure) -> HTTPConnection {
    if let connection = idle.withLock({ $0.popLast() }) { return connection }
    guard let connection = HTTPConnection(library, options, userAgent: userAgent) else {
      throw .fatal(
        VMCheckpointError(
          .outOfResources,
          "no memory for a connection",
          hint: VMCheckpointError.memoryHint
        )
      )
    }
    return connection
  }
}

/// A handle of libcurl's with its open connection. Of one thread at a time.
private final class HTTPConnection: @unchecked Sendable {
  private let library: CurlLibrary
  private let options: HTTPClient.Options
  private let userAgent: String
  private let easy: CurlLibrary.Handle
  private let multi: CurlLibrary.Handle
  private let errorText: UnsafeMutablePointer<CChar>

  init?(_ library: CurlLibrary, _ options: HTTPClient.Options, userAgent: String) {
    guard let easy = library.easyInit() else { return nil }
    guard let multi = library.multiInit() else {
      library.easyCleanup(easy)
      return nil
    }
    self.library = library
    self.options = options
    self.userAgent = userAgent
    self.easy = easy
    self.multi = multi
    errorText = .allocate(capacity: CCURL_ERROR_BYTE_COUNT)
    errorText.initialize(repeating: 0, count: CCURL_ERROR_BYTE_COUNT)
  }

  deinit {
    library.easyCleanup(easy)
    _ = library.multiCleanup(multi)
    errorText.deallocate()
  }

  /// Who waits is told so after so long.
  private static let stallSeconds = 5.0

  /// Runs one transfer to its end.
  func run(
    _ transfer: HTTPTransfer,
    onStall: () -> Void
  ) throws(HTTPFailure) -> HTTPResponse {
    library.easyReset(easy)
    errorText.pointee = 0
    let headers = try setUp(transfer)
    defer { library.listFree(headers) }
    guard library.multiAdd(multi, easy) == 0 else {
      throw .connection("libcurl takes no transfer", mayHaveArrived: false)
    }
    defer { _ = library.multiRemove(multi, easy) }
    var running: CInt = 1
    var (movedByteCount, movedSeconds) = (-1, 0.0)
    while true {
      guard library.multiPerform(multi, &running) == 0 else {
        throw .connection("libcurl cannot go on", mayHaveArrived: true)
      }
      if options.cancellation.isCancelled { throw .cancelled }
      if running == 0 { break }
      if movedByteCount != transfer.movedByteCount {
        (movedByteCount, movedSeconds) = (transfer.movedByteCount, MonotonicClock.nowSeconds)
      } else if MonotonicClock.nowSeconds - movedSeconds >= Self.stallSeconds {
        onStall()
      }
      library.wait(multi, milliseconds: 100)
    }
    guard let code = library.result(multi) else {
      throw .connection("libcurl has no result", mayHaveArrived: true)
    }
    return try withExtendedLifetime(transfer) { () throws(HTTPFailure) in
      if let failure = transfer.failure { throw failure }
      guard code == CInt(CCURL_OK) else { throw failure(code, transfer) }
      return try transfer.response()
    }
  }

  /// Sets all options.
  ///
  /// - Returns: The list of headers, which has to stay until the end.
  private func setUp(_ transfer: HTTPTransfer) throws(HTTPFailure) -> CurlLibrary.Handle? {
    let request = transfer.request
    let context = UnsafeRawPointer(Unmanaged.passUnretained(transfer).toOpaque())
    func address<Function>(_ function: Function) -> UnsafeRawPointer {
      unsafeBitCast(function, to: UnsafeRawPointer.self)
    }
    var isSet = true
    func require(_ result: Bool) { isSet = isSet && result }
    require(library.set(easy, CCURL_OPT_URL, request.url))
    let protocols =
      CCURL_PROTOCOL_HTTPS
      | (options.allowsPlainHTTP ? CCURL_PROTOCOL_HTTP : 0)
    require(library.set(easy, CCURL_OPT_PROTOCOLS, protocols))
    // Without a proxy where nothing is encrypted.
    if options.allowsPlainHTTP { require(library.set(easy, CCURL_OPT_NOPROXY, "*")) }
    require(library.set(easy, CCURL_OPT_SSL_VERIFYPEER, 1))
    require(library.set(easy, CCURL_OPT_SSL_VERIFYHOST, 2))
    require(
      library.set(
        easy,
        CCURL_OPT_SSLVERSION,
        CCURL_SSLVERSION_TLS_1_2
      )
    )
    if let file = options.caFile {
      require(library.set(easy, CCURL_OPT_CAINFO, file))
    }
    require(
      library.set(easy, CCURL_OPT_HTTP_VERSION, CCURL_HTTP_VERSION_1_1)
    )
    require(library.set(easy, CCURL_OPT_NOSIGNAL, 1))
    require(library.set(easy, CCURL_OPT_PATH_AS_IS, 1))
    require(library.set(easy, CCURL_OPT_HTTP_CONTENT_DECODING, 0))
    library.set(easy, CCURL_OPT_HTTP09_ALLOWED, 0)
    library.set(easy, CCURL_OPT_SUPPRESS_CONNECT_HEADERS, 1)
    library.set(easy, CCURL_OPT_TCP_KEEPALIVE, 1)
    library.set(easy, CCURL_OPT_MAXCONNECTS, 1)
    let bufferByteCount = options.limit?.partByteCount ?? 256 << 10
    library.set(easy, CCURL_OPT_BUFFERSIZE, max(1024, bufferByteCount))
    library.set(easy, CCURL_OPT_UPLOAD_BUFFERSIZE, max(16 << 10, bufferByteCount))
    let connect = Int(options.connectTimeoutSeconds * 1000)
    require(library.set(easy, CCURL_OPT_CONNECTTIMEOUT_MS, connect))
    require(library.set(easy, CCURL_OPT_LOW_SPEED_LIMIT, 1))
    require(
      library.set(easy, CCURL_OPT_LOW_SPEED_TIME, options.stallTimeoutSeconds)
    )
    library.set(easy, CCURL_OPT_USERAGENT, userAgent)
    library.set(easy, CCURL_OPT_ERRORBUFFER, UnsafeRawPointer(errorText))

    require(library.set(easy, CCURL_OPT_HEADERFUNCTION, address(readHeader)))
    require(library.set(easy, CCURL_OPT_HEADERDATA, context))
    require(library.set(easy, CCURL_OPT_WRITEFUNCTION, address(readBody)))
    require(library.set(easy, CCURL_OPT_WRITEDATA, context))
    if request.method == "HEAD" { require(library.set(easy, CCURL_OPT_NOBODY, 1)) }
    if let body = request.body {
      require(library.set(easy, CCURL_OPT_UPLOAD, 1))
      require(library.set(easy, CCURL_OPT_INFILESIZE_LARGE, offset: body.count))
      require(library.set(easy, CCURL_OPT_READFUNCTION, address(sendBody)))
      require(library.set(easy, CCURL_OPT_READDATA, context))
      // Without it libcurl would send a body again by itself when an open connection turns out to be closed, and
      // nobody would know that the first may have arrived.
      require(library.set(easy, CCURL_OPT_SEEKFUNCTION, address(seekBody)))
      require(library.set(easy, CCURL_OPT_SEEKDATA, context))
    }
    require(library.set(easy, CCURL_OPT_CUSTOMREQUEST, request.method))

    var list: CurlLibrary.Handle?
    // Nobody waits for a "100 Continue": it costs a round trip.
    for (name, value) in request.headers + [("Expect", ""), ("Accept", "")] {
      // An empty value keeps libcurl from sending its own.
      guard let next = library.listAppend(list, value.isEmpty ? "\(name):" : "\(name): \(value)")
      else {
        isSet = false
        break
      }
      list = next
    }
    require(library.set(easy, CCURL_OPT_HTTPHEADER, list.map { UnsafeRawPointer($0) }))
    guard isSet else {
      library.listFree(list)
      throw .fatal(
        VMCheckpointError(
          .unavailable,
          "libcurl is too old, or built without what remotes need",
          hint: "install a current one, as with: apt-get install libcurl4"
        )
      )
    }
    return list
  }

  private func failure(_ code: CInt, _ transfer: HTTPTransfer) -> HTTPFailure {
    let words =
      errorText.pointee != 0
      ? String(cString: errorText) : library.errorText(code).map { String(cString: $0) }
    let reason = words.map(Self.plain) ?? "error \(code) of libcurl"
    func fatal(_ message: String, hint: String?) -> HTTPFailure {
      .fatal(VMCheckpointError(.unavailable, message, hint: hint))
    }
    switch Int(code) {
    case CCURL_PEER_FAILED_VERIFICATION, CCURL_SSL_ISSUER_ERROR:
      return fatal(
        "the server's certificate is not trusted: \(reason)",
        hint: "check the endpoint, or name the file of the authority that signed it"
      )
    case CCURL_SSL_CACERT_BADFILE:
      return fatal("the file of certificates cannot be used: \(reason)", hint: nil)
    case CCURL_UNSUPPORTED_PROTOCOL, CCURL_URL_MALFORMAT,
      CCURL_SSL_CERTPROBLEM, CCURL_SSL_CIPHER:
      return fatal("the server cannot be asked: \(reason)", hint: nil)
    // It has no more memory, or a header that is longer than it takes.
    case CCURL_OUT_OF_MEMORY:
      return .invalid("there is no room for the headers of the answer")
    case CCURL_WEIRD_SERVER_REPLY:
      return .invalid(reason)
    case CCURL_COULDNT_RESOLVE_HOST, CCURL_COULDNT_RESOLVE_PROXY,
      CCURL_COULDNT_CONNECT, CCURL_SSL_CONNECT_ERROR:
      return .connection(reason, mayHaveArrived: false)
    default:
      return .connection(reason, mayHaveArrived: true)
    }
  }

  /// Words of libcurl's, which may have a server's in them.
  private static func plain(_ text: String) -> String {
    let scalars = text.unicodeScalars.prefix(200).map { (" "..."~").contains($0) ? $0 : "?" }
    var text = String(String.UnicodeScalarView(scalars))
    while text.last == "." || text.last == " " { text.removeLast() }
    return text
  }
}

/// What goes out and what comes in, as libcurl's callbacks see it.
private final class HTTPTransfer {
  let request: HTTPRequest
  private let buffer: UnsafeMutableRawBufferPointer
  private let bufferStatuses: [Int]
  private let accepts: (HTTPResponseHead) -> String?
  private let maximumByteCount: Int
  private let options: HTTPClient.Options

  private var head = HTTPResponseHead()
  private var sentByteCount = 0
  private var bufferByteCount = 0
  private var body: [UInt8] = []
  private var didAccept = false
  private(set) var failure: HTTPFailure?

  /// What came and went until now.
  var movedByteCount: Int { sentByteCount + bufferByteCount + body.count }

  init(
    request: HTTPRequest,
    buffer: UnsafeMutableRawBufferPointer,
    bufferStatuses: [Int],
    accepts: @escaping (HTTPResponseHead) -> String?,
    maximumByteCount: Int,
    options: HTTPClient.Options
  ) {
    self.request = request
    self.buffer = buffer
    self.bufferStatuses = bufferStatuses
    self.accepts = accepts
    self.maximumByteCount = maximumByteCount
    self.options = options
  }

  /// The answer, once all of it is there.
  func response() throws(HTTPFailure) -> HTTPResponse {
    guard head.status >= 200 else { throw .invalid("the server sent no status") }
    try accept()
    let count = UInt64(max(bufferByteCount, body.count))
    if let length = head.contentLength, request.method != "HEAD", length != count {
      throw .connection("the answer ended early", mayHaveArrived: true)
    }
    return HTTPResponse(head: head, bufferByteCount: bufferByteCount, body: body)
  }

  /// Asks the caller, once, whether the head of an answer is right.
  private func accept() throws(HTTPFailure) {
    guard !didAccept else { return }
    didAccept = true
    if head.isEncoded { throw .invalid("the server encodes what nobody asked it to encode") }
    guard bufferStatuses.contains(head.status) else { return }
    if let problem = accepts(head) { throw .invalid(problem) }
  }

  func takeHeader(_ line: UnsafeRawBufferPointer) -> Bool {
    // Headers behind a body, of one in chunks, say nothing.
    if !body.isEmpty || bufferByteCount > 0 { return true }
    guard head.read(line) else {
      failure = .invalid("the headers of the answer are not those of a server")
      return false
    }
    return true
  }

  func takeBody(_ bytes: UnsafeRawBufferPointer) -> Bool {
    options.limit?.wait(byteCount: bytes.count, cancellation: options.cancellation)
    if options.cancellation.isCancelled {
      failure = .cancelled
      return false
    }
    do throws(HTTPFailure) {
      try accept()
      if bufferStatuses.contains(head.status) {
        guard bytes.count <= buffer.count - bufferByteCount else {
          throw .invalid("the server sends more than was asked for")
        }
        buffer.baseAddress.map {
          ($0 + bufferByteCount).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
        }
        bufferByteCount += bytes.count
      } else {
        guard bytes.count <= maximumByteCount - body.count else {
          throw .invalid("the answer has more than \(maximumByteCount) bytes")
        }
        body += bytes
      }
    } catch {
      failure = error
      return false
    }
    return true
  }

  /// Fills libcurl's buffer.
  ///
  /// - Returns: `nil` ends the transfer.
  func fill(_ target: UnsafeMutableRawBufferPointer) -> Int? {
    if options.cancellation.isCancelled {
      failure = .cancelled
      return nil
    }
    guard let body = request.body else { return 0 }
    let room = min(target.count, options.limit?.partByteCount ?? target.count)
    let count = min(room, body.count - sentByteCount)
    guard count > 0 else { return 0 }
    options.limit?.wait(byteCount: count, cancellation: options.cancellation)
    target.copyMemory(
      from: UnsafeRawBufferPointer(rebasing: body[sentByteCount..<sentByteCount + count])
    )
    sentByteCount += count
    return count
  }

  /// Whether the body can begin at an offset: only where it is already.
  func seek(to offset: Int) -> Bool { offset == sentByteCount }

  static func of(_ context: UnsafeMutableRawPointer) -> HTTPTransfer {
    Unmanaged<HTTPTransfer>.fromOpaque(context).takeUnretainedValue()
  }
}

// libcurl's callbacks: bytes, their size and number, and the transfer.
private typealias DataCallback =
  @convention(c) (UnsafeMutableRawPointer?, Int, Int, UnsafeMutableRawPointer?) -> Int

private let readHeader: DataCallback = { bytes, size, count, context in
  let line = UnsafeRawBufferPointer(start: bytes, count: size * count)
  return HTTPTransfer.of(context!).takeHeader(line) ? size * count : 0
}

private let readBody: DataCallback = { bytes, size, count, context in
  guard size * count > 0 else { return 0 }
  let body = UnsafeRawBufferPointer(start: bytes, count: size * count)
  return HTTPTransfer.of(context!).takeBody(body) ? size * count : 0
}

private let sendBody: DataCallback = { bytes, size, count, context in
  let target = UnsafeMutableRawBufferPointer(start: bytes, count: size * count)
  return HTTPTransfer.of(context!).fill(target) ?? CCURL_READ_ABORT
}

private let seekBody: @convention(c) (UnsafeMutableRawPointer?, Int64, CInt) -> CInt = {
  context,
  offset,
  origin in
  // CURL_SEEKFUNC_OK and _FAIL; the origin is always the beginning.
  origin == SEEK_SET && HTTPTransfer.of(context!).seek(to: Int(offset)) ? 0 : 1
}
