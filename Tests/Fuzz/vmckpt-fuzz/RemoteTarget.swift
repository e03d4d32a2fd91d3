@testable import VMCheckpoint
@testable import VMCheckpointCore

/// What an object store answers: headers, lists and errors; and the addresses of remotes in a store.
struct RemoteTarget: FuzzTarget {
  init(_ setting: FuzzSetting) {}

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let kind = input.choice(of: 4)
    let bytes = input.rest()
    switch kind {
    case 0:
      let page = try S3ListPage(xml: bytes)
      precondition(page.objects.count <= 1000 && page.continuationToken != "")
      for object in page.objects {
        precondition(!object.key.isEmpty && object.modifiedSeconds >= 0)
        let text = String(decoding: object.key, as: UTF8.self)
        if let key = RemoteKey(text) {
          precondition(key.parts.allSatisfy { $0 != ".." && !$0.isEmpty }, "a key is no path")
        }
      }
    case 1:
      let error = S3ErrorDocument(xml: bytes)
      for text in [error.code, error.region, error.endpoint] {
        precondition(text?.utf8.allSatisfy { (33..<127).contains($0) } ?? true, "cannot be shown")
      }
    case 2:
      var head = HTTPResponseHead()
      for line in bytes.split(separator: 10, omittingEmptySubsequences: false) {
        let isRead = (Array(line) + [13, 10]).withUnsafeBytes { head.read($0) }
        guard isRead else { return }
      }
      if let range = head.contentRange, let part = range.bytes {
        precondition(part.upperBound <= range.totalByteCount && !part.isEmpty)
      }
    default:
      let text = String(decoding: bytes, as: UTF8.self)
      if let endpoint = try? RemoteEndpoint(text) {
        let again = try RemoteEndpoint(endpoint.description)
        precondition(again == endpoint, "an endpoint has two spellings")
      }
      let address = try RemoteAddress(text)
      let again = try RemoteAddress(address.description)
      precondition(again == address, "an address has two spellings")
    }
  }

  var seeds: [[UInt8]] {
    [
      "\u{0}<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
        + "<IsTruncated>true</IsTruncated><NextContinuationToken>a/b=</NextContinuationToken><Contents>"
        + "<Key>a&amp;b&#x41;</Key><LastModified>2026-11-28T12:34:56.789Z</LastModified><Size>5</Size>"
        + "<Owner><ID>x</ID></Owner></Contents><Prefix/></ListBucketResult>",
      "\u{1}<Error><Code>PermanentRedirect</Code><Endpoint>a.example:1</Endpoint><Region>eu-west-1</Region></Error>",
      "\u{2}HTTP/1.1 100 Continue\n\nHTTP/1.1 206 Partial Content\nContent-Length: 10\n"
        + "Content-Range: bytes 5-14/100\nDate: Sun, 06 Nov 1994 08:49:37 GMT\n"
        + "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nETag: \"0123456789abcdef\"\nRetry-After: 3\n"
        + "x-amz-bucket-region: eu-west-1\nLocation: https://a.example/b\nContent-Encoding: identity\n",
      "\u{2}HTTP/1.1 416 x\nContent-Range: bytes */100\n", "\u{3}s3://bucket/fleet/a",
      "\u{3}file:///srv/fleet", "\u{3}https://[::1]:9000", "\u{3}http://127.0.0.1:80",
    ].map { Array($0.utf8) }
  }
}
