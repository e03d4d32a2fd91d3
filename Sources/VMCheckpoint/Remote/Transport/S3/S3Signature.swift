/// Signs requests by version 4 of AWS's signatures, as all servers of the S3 protocol check them.
///
/// Source: "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk" of the
/// Amazon S3 API Reference.
package struct S3Signature: Sendable {
  /// For `x-amz-content-sha256`, where the body is checked by another header.
  package static let unsignedPayload = "UNSIGNED-PAYLOAD"
  /// The SHA-256 of no bytes.
  package static let emptyPayload =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

  package var region: String
  /// `s3`, except in published examples.
  package var service = "s3"
  /// In seconds since 1970, by the server's clock.
  package var seconds: Int64

  package init(region: String, service: String = "s3", seconds: Int64) {
    self.region = region
    self.service = service
    self.seconds = seconds
  }

  /// Such as `20130524T000000Z`, for the header `x-amz-date`.
  package var date: String { ServerTime.compactText(seconds) }

  private var scope: String { "\(date.prefix(8))/\(region)/\(service)/aws4_request" }

  /// The value of the header `Authorization`.
  ///
  /// - Parameters:
  ///   - path: As it is sent, encoded.
  ///   - query: Names and values, not encoded, in any order.
  ///   - headers: All that are signed, with `host`; names in small letters, each once.
  ///   - payload: The body's SHA-256 in hexadecimal, or ``unsignedPayload``.
  /// - Throws: ``VMCheckpointError`` with the code `outOfResources`.
  package func authorization(
    method: String,
    path: String,
    query: [(String, String)],
    headers: [(String, String)],
    payload: String,
    credentials: RemoteCredentials
  ) throws(VMCheckpointError) -> String {
    let headers = headers.sorted { $0.0 < $1.0 }
    let names = headers.map(\.0).joined(separator: ";")
    let lines = headers.map { "\($0):\(Self.trimmed($1))\n" }.joined()
    let request = [
      method, path, Self.queryText(query), lines, names, payload,
    ].joined(separator: "\n")
    let digest = hexadecimal(SHA256Hasher.hash(Array(request.utf8)))
    let text = ["AWS4-HMAC-SHA256", date, scope, digest].joined(separator: "\n")
    let signature = try Self.code(text, key: key(credentials))
    return "AWS4-HMAC-SHA256 Credential=\(credentials.accessKeyID)/\(scope), "
      + "SignedHeaders=\(names), Signature=\(hexadecimal(signature))"
  }

  /// The key of a day, region and service.
  package func key(_ credentials: RemoteCredentials) throws(VMCheckpointError) -> [UInt8] {
    var key = Array("AWS4\(credentials.secretAccessKey)".utf8)
    for part in [String(date.prefix(8)), region, service, "aws4_request"] {
      key = try Self.code(part, key: key)
    }
    return key
  }

  /// A query as it is signed and sent: sorted and encoded.
  package static func queryText(_ query: [(String, String)]) -> String {
    var parts: [(name: String, value: String)] = []
    for (name, value) in query { parts.append((encoded(name), encoded(value))) }
    parts.sort { first, second in
      first.name == second.name ? first.value < second.value : first.name < second.name
    }
    return parts.map { part in "\(part.name)=\(part.value)" }.joined(separator: "&")
  }

  /// Everything but unreserved characters as `%XX`; `/` too, unless it is kept.
  package static func encoded(_ text: String, keepsSlash: Bool = false) -> String {
    var result: [UInt8] = []
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
        UInt8(ascii: "_"), UInt8(ascii: "~"):
        result.append(byte)
      case UInt8(ascii: "/") where keepsSlash: result.append(byte)
      default:
        result += Array("%\(byte < 16 ? "0" : "")\(String(byte, radix: 16, uppercase: true))".utf8)
      }
    }
    return String(decoding: result, as: UTF8.self)
  }

  private static func code(_ text: String, key: [UInt8]) throws(VMCheckpointError) -> [UInt8] {
    guard let code = HMACSHA256.code(of: Array(text.utf8), key: key) else {
      throw VMCheckpointError(
        .outOfResources,
        "no memory to sign a request",
        hint: VMCheckpointError.memoryHint
      )
    }
    return code
  }

  /// Without spaces at the ends, and with one between words.
  private static func trimmed(_ value: String) -> String {
    value.split(separator: " ").joined(separator: " ")
  }
}
