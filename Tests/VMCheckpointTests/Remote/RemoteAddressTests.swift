import Testing
import VMCheckpoint

/// Addresses and endpoints that are not what they seem.
@Suite struct RemoteAddressTests {
  @Test(arguments: [
    ("s3://bucket", "s3://bucket"), ("s3://bucket/", "s3://bucket"),
    ("s3://my.bucket-1/fleet/a_b", "s3://my.bucket-1/fleet/a_b"),
    ("s3://bucket/fleet/", "s3://bucket/fleet"), ("file:///srv/x", "file:///srv/x"),
    ("file:///srv//x/", "file:///srv/x"), ("file:///srv/a b/é", "file:///srv/a b/é"),
  ])
  func anAddressHasOneSpelling(_ text: String, _ written: String) throws {
    let address = try RemoteAddress(text)
    #expect(address.description == written)
    #expect(try RemoteAddress(written) == address)
  }

  @Test(arguments: [
    "", "bucket", "s3:bucket", "S3://bucket", "s3://", "s3:///x", "s3://ab", "s3://Bucket",
    "s3://bu_cket", "s3://-bucket", "s3://bucket-", "s3://bu..cket", "s3://192.168.1.1",
    "s3://bucket/a//b", "s3://bucket/../b", "s3://bucket/a/./b", "s3://bucket/a b",
    "s3://bucket/a?b", "s3://user:secret@bucket/x", "s3://bucket//", "file://host/path",
    "file://", "file:///", "file:relative", "file:///a/../b", "file:///a\nb",
    "s3://bucket/\(String(repeating: "x", count: 201))",
    "s3://\(String(repeating: "x", count: 64))", "http://bucket/x",
  ])
  func whatIsNotAnAddressIsRefused(_ text: String) {
    let error = #expect(throws: VMCheckpointError.self) { try RemoteAddress(text) }
    #expect(error?.code == .invalidArgument && error?.hint != nil)
  }

  @Test(arguments: [
    ("https://Objects.Example.COM", "https://objects.example.com"),
    ("https://a.b:443/", "https://a.b"), ("http://127.0.0.1:7480", "http://127.0.0.1:7480"),
    ("http://a:80", "http://a"), ("https://[::1]:9000", "https://[::1]:9000"),
  ])
  func anEndpointHasOneSpelling(_ text: String, _ written: String) throws {
    #expect(try RemoteEndpoint(text).description == written)
  }

  @Test(arguments: [
    "", "a.b", "ftp://a", "https://", "https://a/b", "https://a?x", "https://a#x", "https://a:0",
    "https://a:99999", "https://a:1:2", "https://[::1", "https://[a]", "https://a b",
    "https://key:TheSecret@a.b", "https://a\r\nX: y",
  ])
  func whatIsNotAnEndpointIsRefused(_ text: String) {
    let error = #expect(throws: VMCheckpointError.self) { try RemoteEndpoint(text) }
    #expect(error?.code == .invalidArgument)
    #expect(error?.description.contains("TheSecret") == false)
  }

  @Test func awsIsAskedAtTheBucketsOwnHost() {
    let plain = RemoteEndpoint.aws(bucket: "fleet", region: "eu-west-1")
    #expect(plain.endpoint.description == "https://fleet.s3.eu-west-1.amazonaws.com")
    #expect(plain.isBucketsOwn)
    // No certificate holds for a name with more dots.
    let dotted = RemoteEndpoint.aws(bucket: "a.b", region: "cn-north-1")
    #expect(dotted.endpoint.description == "https://s3.cn-north-1.amazonaws.com.cn")
    #expect(!dotted.isBucketsOwn)
  }

  @Test func onlyThisHostIsLoopback() throws {
    for host in ["127.0.0.1", "127.255.1.2", "localhost", "[::1]"] {
      #expect(try RemoteEndpoint("http://\(host):1").isLoopback, "\(host)")
    }
    for host in [
      "128.0.0.1", "localhost.example.com", "[::2]", "0.0.0.0", "127.1", "[::ffff:127.0.0.1]",
    ] {
      #expect(try !RemoteEndpoint("http://\(host):1").isLoopback, "\(host)")
    }
  }

  @Test func keysAreNoWayOutOfAFolder() {
    for text in [
      "", "/", "a/", "/a", "a//b", ".", "..", "a/..", "../a", "a\u{0}", "a\\b", "~vmckpt/x",
    ] {
      #expect(RemoteKey(text) == nil, "\(text)")
    }
    #expect(RemoteKey(String(repeating: "a", count: 255)) != nil)
    #expect(RemoteKey(String(repeating: "a", count: 256)) == nil)
    #expect(RemoteKey((0..<401).map { _ in "a" }.joined(separator: "/")) == nil)
    #expect(RemoteKey("...") != nil && RemoteKey("packs/3f/0A._-") != nil)
  }
}
