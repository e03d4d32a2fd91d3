import Glibc

/// The server of an object store: `https://HOST`, `http://HOST:PORT`, checked.
package struct RemoteEndpoint: Sendable, Hashable, CustomStringConvertible {
  package let isSecure: Bool
  /// In small letters; an IPv6 address without its brackets.
  package let host: String
  /// `nil` for the scheme's own.
  package let port: UInt16?

  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`, which says what is wrong.
  package init(_ text: String) throws(VMCheckpointError) {
    func invalid(_ reason: String) -> VMCheckpointError {
      VMCheckpointError(
        .invalidArgument,
        "\(quotedName(Self.shown(text), maximumScalarCount: 200)) is not an endpoint: \(reason)",
        hint: "give one such as https://objects.example.com or http://127.0.0.1:7480"
      )
    }
    var rest = text[...]
    let lower = text.lowercased()
    if lower.hasPrefix("https://") {
      (isSecure, rest) = (true, rest.dropFirst(8))
    } else if lower.hasPrefix("http://") {
      (isSecure, rest) = (false, rest.dropFirst(7))
    } else {
      throw invalid("it begins with neither https:// nor http://")
    }
    if rest.hasSuffix("/") { rest = rest.dropLast() }
    if rest.contains("@") { throw invalid("credentials do not belong into a URL") }
    guard !rest.contains(where: { "/?#".contains($0) }) else {
      throw invalid("there is something behind the host")
    }
    let port: Substring?
    if rest.first == "[" {
      guard let end = rest.firstIndex(of: "]") else { throw invalid("a ] is missing") }
      let address = String(rest[rest.index(after: rest.startIndex)..<end]).lowercased()
      guard Self.isIPv6(address) else { throw invalid("it has no IPv6 address in its brackets") }
      host = address
      let behind = rest[rest.index(after: end)...]
      guard behind.isEmpty || behind.first == ":" else { throw invalid("its port is unclear") }
      port = behind.isEmpty ? nil : behind.dropFirst()
    } else {
      let parts = rest.split(separator: ":", omittingEmptySubsequences: false)
      host = parts[0].lowercased()
      let isHost = host.utf8.allSatisfy {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0)
          || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
          || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_")
      }
      guard (1...253).contains(host.utf8.count), isHost, parts.count <= 2 else {
        throw invalid("its host is not a name or an address")
      }
      port = parts.count > 1 ? parts[1] : nil
    }
    if let port {
      guard let number = UInt16(port), number > 0, port.utf8.count <= 5 else {
        throw invalid("its port is not a number from 1 to 65535")
      }
      self.port = number == (isSecure ? 443 : 80) ? nil : number
    } else {
      self.port = nil
    }
  }

  private init(host: String) { (isSecure, self.host, port) = (true, host, nil) }

  /// AWS's own server for a bucket.
  ///
  /// - Returns: The server, and whether it is the bucket's own, so that paths do not name the bucket.
  package static func aws(
    bucket: String,
    region: String
  ) -> (endpoint: RemoteEndpoint, isBucketsOwn: Bool) {
    let suffix = region.hasPrefix("cn-") ? "amazonaws.com.cn" : "amazonaws.com"
    let server = "s3.\(region).\(suffix)"
    // A certificate for *.s3… does not hold for a name with more dots.
    if bucket.contains(".") { return (RemoteEndpoint(host: server), false) }
    return (RemoteEndpoint(host: "\(bucket).\(server)"), true)
  }

  /// Host and port as in the header `Host`.
  package var authority: String {
    let name = host.contains(":") ? "[\(host)]" : host
    return port.map { "\(name):\($0)" } ?? name
  }

  /// The endpoint as it is written: the same for the same place.
  package var description: String { "\(isSecure ? "https" : "http")://\(authority)" }

  /// Whether what is sent stays on this host.
  package var isLoopback: Bool {
    if host == "localhost" { return true }
    var four = in_addr()
    if inet_pton(AF_INET, host, &four) == 1 { return UInt32(bigEndian: four.s_addr) >> 24 == 127 }
    var six = in6_addr()
    guard inet_pton(AF_INET6, host, &six) == 1 else { return false }
    return withUnsafeBytes(of: six) { $0.dropLast().allSatisfy { $0 == 0 } && $0[15] == 1 }
  }

  private static func isIPv6(_ text: String) -> Bool {
    var address = in6_addr()
    return inet_pton(AF_INET6, text, &address) == 1
  }

  /// Without what may be a password.
  private static func shown(_ text: String) -> String {
    guard let at = text.lastIndex(of: "@") else { return text }
    return "…" + text[at...]
  }
}
