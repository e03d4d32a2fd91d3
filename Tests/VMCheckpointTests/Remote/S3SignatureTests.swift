import Testing
import VMCheckpoint

/// Signatures against those that AWS publishes.
@Suite struct S3SignatureTests {
  private static let key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

  /// 24 May 2013, the day of the examples in "Signature Calculations for the Authorization Header" of the Amazon S3
  /// API Reference.
  @Test(
    arguments: [
      (
        "GET", "/test.txt", [], [("range", "bytes=0-9")], "",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
      ),
      (
        "PUT", "/test$file.text", [],
        [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
        "Welcome to Amazon S3.", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
      ),
      (
        "GET", "/", [("lifecycle", "")], [], "",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
      ),
      (
        "GET", "/", [("max-keys", "2"), ("prefix", "J")], [], "",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
      ),
    ] as [(String, String, [(String, String)], [(String, String)], String, String)]
  )
  func requestsToBuckets(
    method: String,
    path: String,
    query: [(String, String)],
    headers: [(String, String)],
    body: String,
    signature: String
  ) throws {
    let signer = S3Signature(region: "us-east-1", seconds: 1_369_353_600)
    #expect(signer.date == "20130524T000000Z")
    let payload = hexadecimal(SHA256Hasher.hash(Array(body.utf8)))
    let text = try signer.authorization(
      method: method,
      path: S3Signature.encoded(path, keepsSlash: true),
      query: query,
      headers: headers + [
        ("host", "examplebucket.s3.amazonaws.com"), ("x-amz-content-sha256", payload),
        ("x-amz-date", signer.date),
      ],
      payload: payload,
      credentials: RemoteCredentials(
        accessKeyID: "AKIAIOSFODNN7EXAMPLE",
        secretAccessKey: Self.key
      )
    )
    #expect(text.hasSuffix("Signature=\(signature)"))
    let scope = "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
    #expect(text.hasPrefix("AWS4-HMAC-SHA256 \(scope)SignedHeaders=host;") || !headers.isEmpty)
  }

  /// Of the test suite of version 4: 30 August 2015, the service `service`.
  @Test(
    arguments: [
      ("GET", [], "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
      (
        "GET", [("Param2", "value2"), ("Param1", "value1")],
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
      ),
      ("POST", [], "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ] as [(String, [(String, String)], String)]
  )
  func requestsOfTheTestSuite(
    method: String,
    query: [(String, String)],
    signature: String
  ) throws {
    let signer = S3Signature(region: "us-east-1", service: "service", seconds: 1_440_938_160)
    let text = try signer.authorization(
      method: method,
      path: "/",
      query: query,
      headers: [("x-amz-date", signer.date), ("host", "example.amazonaws.com")],
      payload: S3Signature.emptyPayload,
      credentials: RemoteCredentials(
        accessKeyID: "AKIDEXAMPLE",
        secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
      )
    )
    #expect(
      text == "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        + "SignedHeaders=host;x-amz-date, Signature=\(signature)"
    )
  }

  /// "Deriving a signing key" of AWS's General Reference.
  @Test func keysOfADay() throws {
    let signer = S3Signature(region: "us-east-1", service: "iam", seconds: 1_440_938_160)
    let key = try signer.key(
      RemoteCredentials(
        accessKeyID: "AKIDEXAMPLE",
        secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
      )
    )
    #expect(
      hexadecimal(key) == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
    )
  }

  @Test func reservedCharactersAreEncodedInQueries() {
    let query = [("prefix", "a/b c+d=e&f~"), ("continuation-token", "1/2==")]
    let text = "continuation-token=1%2F2%3D%3D&prefix=a%2Fb%20c%2Bd%3De%26f~"
    #expect(S3Signature.queryText(query) == text)
  }
}
