import Glibc
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// Whom a transport talks to, and who may read it.
@Suite struct S3SecurityTests {
  private let credentials = RemoteCredentialSource(
    environment: ["AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "TheSecretOfTheTests"]
  )

  private func transport(_ endpoint: String, caFile: String? = nil) throws -> any RemoteTransport {
    var options = RemoteOptions()
    options.endpoint = try RemoteEndpoint(endpoint)
    options.credentials = credentials
    options.caFile = caFile
    return try RemoteAddress("s3://bucket/x").transport(options)
  }

  @Test func onlyAServerWithATrustedCertificateIsAsked() throws {
    let server = try TLSObjectStore()
    let endpoint = "https://127.0.0.1:\(server.port)"
    let error = #expect(throws: VMCheckpointError.self) { try transport(endpoint).head("a") }
    #expect(error?.code == .unavailable && error?.message.contains("certificate") == true)
    // It is trusted by its file, and still not under another name.
    let trusted = try transport(endpoint, caFile: server.certificatePath)
    #expect(try trusted.head("a")?.modifiedSeconds == 784_111_777)
    let other = try transport(
      "https://localhost:\(server.port)",
      caFile: server.certificatePath
    )
    #expect(throws: VMCheckpointError.self) { try other.head("a") }
    let missing = try transport(endpoint, caFile: "\(server.certificatePath).none")
    let second = #expect(throws: VMCheckpointError.self) { try missing.head("a") }
    #expect(second?.code == .unavailable)
  }

  @Test func aProxyDoesNotSeeWhatIsNotEncrypted() async {
    // Variables belong to a whole process.
    await #expect(processExitsWith: .success) {
      let (server, proxy) = (try MockObjectStore(), try MockObjectStore())
      for name in ["http_proxy", "all_proxy"] { setenv(name, proxy.endpoint, 1) }
      try server.transport().put("a", [1])
      #expect(server.object("remote/a") == [1])
      #expect(proxy.requests.isEmpty)
    }
  }

  @Test func anotherBucketsRegionIsAskedFor() throws {
    var options = RemoteOptions()
    options.credentials = credentials
    let error = #expect(throws: VMCheckpointError.self) {
      try RemoteAddress("s3://bucket/x").transport(options)
    }
    #expect(error?.code == .invalidArgument && error?.hint?.contains("AWS_REGION") == true)
    for region in ["", "eu west", "eu/west", "EU\r\nX: y"] {
      options.region = region
      #expect(throws: VMCheckpointError.self) {
        try RemoteAddress("s3://bucket/x").transport(options)
      }
    }
  }

  @Test func aFolderHasNoEndpoint() throws {
    var options = RemoteOptions()
    options.endpoint = try RemoteEndpoint("https://a.example")
    let error = #expect(throws: VMCheckpointError.self) {
      try RemoteAddress("file:///tmp").transport(options)
    }
    #expect(error?.code == .invalidArgument)
  }

  @Test(arguments: TransportPlace.all.filter { $0 == .ceph || $0 == .seaweedfs })
  func realServersRefuseOthersKeys(_ place: TransportPlace) throws {
    for key in ["vmckpt", "nobody"] {
      let transport = try place.transport(
        credentials: RemoteCredentialSource(
          environment: ["AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "TheWrongSecret"]
        )
      )
      for call: () throws -> Void in [
        { try transport.put("a", [1]) }, { _ = try transport.head("a") },
        { _ = try transport.get("a") }, { _ = try transport.keys() }, { try transport.delete("a") },
      ] {
        let error = #expect(throws: VMCheckpointError.self, performing: call)
        #expect(error?.code == .permissionDenied)
        #expect(error?.description.contains("TheWrongSecret") == false)
      }
      #expect(transport.requestCounts.retries == 0)
    }
  }

  @Test(arguments: TransportPlace.all.filter { $0 == .ceph || $0 == .seaweedfs })
  func aMissingBucketOfARealServerIsNotAnEmptyRemote(_ place: TransportPlace) throws {
    let transport = try place.transport(bucket: "no-such-bucket-here")
    for call: () throws -> Void in [
      { _ = try transport.head("a") }, { _ = try transport.get("a") },
      { _ = try transport.keys() },
    ] {
      let error = #expect(throws: VMCheckpointError.self, performing: call)
      #expect(error?.code == .unavailable)
    }
  }
}
