/// The status and the headers of a response that the client needs, read line by line.
///
/// Servers are strangers: lines and their number are bounded, a header that comes twice with two values is refused,
/// and what is not needed is passed over.
package struct HTTPResponseHead: Sendable, Hashable {
  /// More than any server sends.
  package static let maximumByteCount = 64 << 10
  private static let maximumLineByteCount = 16 << 10

  /// 0 before the first line.
  package private(set) var status = 0
  package private(set) var contentLength: UInt64?
  package private(set) var contentRange: ContentRange?
  package private(set) var modifiedSeconds: Int64?
  package private(set) var serverSeconds: Int64?
  /// Without quotation marks.
  package private(set) var entityTag: String?
  /// Where the bucket is, of a redirect.
  package private(set) var bucketRegion: String?
  /// The host of a redirect.
  package private(set) var location: String?
  package private(set) var retryAfterSeconds: Int?
  /// Whether the body is in an encoding that nobody asked for.
  package private(set) var isEncoded = false

  private var byteCount = 0

  /// The part that a body has of an object: RFC 9110, section 14.4.
  package struct ContentRange: Sendable, Hashable {
    /// `nil` when there is none, of an answer 416.
    package var bytes: Range<UInt64>?
    package var totalByteCount: UInt64
  }

  package init() {}

  /// Reads one line. That of a status begins a new head: a server may say `100 Continue` first.
  ///
  /// - Returns: `false` for what no server may say.
  package mutating func read(_ line: UnsafeRawBufferPointer) -> Bool {
    byteCount += line.count
    guard byteCount <= Self.maximumByteCount, line.count <= Self.maximumLineByteCount else {
      return false
    }
    var bytes = Array(line)
    while let last = bytes.last, last == 13 || last == 10 { bytes.removeLast() }
    if bytes.starts(with: "HTTP/".utf8) { return readStatus(bytes) }
    guard status != 0 else { return false }
    if bytes.isEmpty { return true }
    guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")), colon > 0 else { return false }
    let name = String(decoding: bytes[..<colon], as: UTF8.self).lowercased()
    let value = Self.trimmed(bytes[(colon + 1)...])
    return readHeader(name, value)
  }

  private mutating func readStatus(_ line: [UInt8]) -> Bool {
    let words = line.split(separator: 32, maxSplits: 2, omittingEmptySubsequences: false)
    guard words.count >= 2, words[1].count == 3, let status = ServerTime.number(words[1]),
      (100..<600).contains(status)
    else { return false }
    let byteCount = byteCount
    self = Self()
    self.status = status
    self.byteCount = byteCount
    return true
  }

  private mutating func readHeader(_ name: String, _ value: ArraySlice<UInt8>) -> Bool {
    switch name {
    case "content-length":
      guard let number = ServerTime.number(value) else { return false }
      return set(&contentLength, UInt64(number))
    case "content-range":
      guard let range = Self.contentRange(value) else { return false }
      return set(&contentRange, range)
    case "last-modified":
      guard let seconds = Self.text(value).flatMap({ ServerTime.seconds(header: $0) }) else {
        return false
      }
      return set(&modifiedSeconds, seconds)
    case "date":
      guard let seconds = Self.text(value).flatMap({ ServerTime.seconds(header: $0) }) else {
        return false
      }
      return set(&serverSeconds, seconds)
    case "etag":
      guard let text = Self.text(value) else { return false }
      let isQuoted = text.count >= 2 && text.first == "\"" && text.last == "\""
      return set(&entityTag, isQuoted ? String(text.dropFirst().dropLast()) : text)
    case "x-amz-bucket-region": bucketRegion = Self.text(value)
    case "location": location = Self.text(value)
    case "retry-after": retryAfterSeconds = ServerTime.number(value)
    case "content-encoding":
      // Go's servers of files send what AWS's clients once asked for.
      let text = Self.text(value)?.lowercased()
      if text != "", text != "identity", text != "aws-chunked" { isEncoded = true }
    default: break
    }
    return true
  }

  /// Sets a value unless there is another.
  private func set<Value: Equatable>(_ place: inout Value?, _ value: Value) -> Bool {
    if let old = place { return old == value }
    place = value
    return true
  }

  /// `bytes 0-9/100`, and `bytes */100`.
  private static func contentRange(_ value: ArraySlice<UInt8>) -> ContentRange? {
    guard value.starts(with: "bytes ".utf8) else { return nil }
    let parts = value.dropFirst(6).split(
      separator: UInt8(ascii: "/"),
      omittingEmptySubsequences: false
    )
    guard parts.count == 2, let total = ServerTime.number(parts[1]) else { return nil }
    if parts[0].elementsEqual("*".utf8) {
      return ContentRange(bytes: nil, totalByteCount: UInt64(total))
    }
    let ends = parts[0].split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
    guard ends.count == 2, let first = ServerTime.number(ends[0]),
      let last = ServerTime.number(ends[1]), first <= last, last < total
    else { return nil }
    return ContentRange(
      bytes: UInt64(first)..<UInt64(last) + 1,
      totalByteCount: UInt64(total)
    )
  }

  /// Printable ASCII, at most 1,000 characters; `nil` for anything else.
  private static func text(_ value: ArraySlice<UInt8>) -> String? {
    guard value.count <= 1000, value.allSatisfy({ (32..<127).contains($0) }) else { return nil }
    return String(decoding: value, as: UTF8.self)
  }

  private static func trimmed(_ value: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    var value = value
    while let first = value.first, first == 32 || first == 9 { value = value.dropFirst() }
    while let last = value.last, last == 32 || last == 9 { value = value.dropLast() }
    return value
  }
}
