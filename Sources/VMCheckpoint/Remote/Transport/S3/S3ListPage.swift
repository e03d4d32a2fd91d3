/// One answer to ListObjectsV2.
package struct S3ListPage: Sendable, Hashable {
  /// More than a page of a thousand keys has.
  package static let maximumByteCount = 8 << 20
  private static let maximumObjectCount = 1000
  private static let maximumKeyByteCount = 4096

  /// An object of the bucket, whoever put it.
  package struct Object: Sendable, Hashable {
    /// As the server gave it, decoded.
    package var key: [UInt8]
    package var byteCount: UInt64
    package var modifiedSeconds: Int64
  }

  package var objects: [Object] = []
  /// Where the next page begins; `nil` on the last.
  package var continuationToken: String?

  /// - Throws: ``XMLScanner/Malformed`` for anything but a whole page.
  package init(xml: [UInt8]) throws(XMLScanner.Malformed) {
    guard xml.count <= Self.maximumByteCount else { throw XMLScanner.Malformed() }
    var scanner = XMLScanner(xml)
    guard try scanner.next() == .start("ListBucketResult") else { throw XMLScanner.Malformed() }
    var isTruncated: Bool?
    reading: while true {
      switch try scanner.next() {
      case .start("Contents"):
        guard objects.count < Self.maximumObjectCount else { throw XMLScanner.Malformed() }
        objects.append(try Self.object(&scanner))
      case .start("IsTruncated"):
        switch try scanner.textOfElement() {
        case Array("true".utf8): isTruncated = true
        case Array("false".utf8): isTruncated = false
        default: throw XMLScanner.Malformed()
        }
      case .start("NextContinuationToken"):
        let token = try scanner.textOfElement()
        guard continuationToken == nil, let text = String(validating: token, as: UTF8.self) else {
          throw XMLScanner.Malformed()
        }
        continuationToken = text
      case .start: try scanner.skipElement()
      case .text: continue
      case .end: break reading
      case nil: throw XMLScanner.Malformed()
      }
    }
    guard try scanner.next() == nil, let isTruncated else { throw XMLScanner.Malformed() }
    // A page that was cut would end the listing too early, and what it lacks would be taken for deleted.
    if !isTruncated {
      continuationToken = nil
    } else if continuationToken?.isEmpty ?? true {
      throw XMLScanner.Malformed()
    }
  }

  private static func object(_ scanner: inout XMLScanner) throws(XMLScanner.Malformed) -> Object {
    var key: [UInt8]?
    var byteCount: UInt64?
    var modifiedSeconds: Int64?
    while true {
      switch try scanner.next() {
      case .start("Key"):
        guard key == nil else { throw XMLScanner.Malformed() }
        key = try scanner.textOfElement()
      case .start("Size"):
        guard byteCount == nil else { throw XMLScanner.Malformed() }
        byteCount = ServerTime.number(try scanner.textOfElement()).map(UInt64.init)
      case .start("LastModified"):
        guard modifiedSeconds == nil else { throw XMLScanner.Malformed() }
        modifiedSeconds = ServerTime.seconds(listing: try scanner.textOfElement())
      case .start: try scanner.skipElement()
      case .text: continue
      case .end:
        guard let key, !key.isEmpty, key.count <= maximumKeyByteCount, let byteCount,
          let modifiedSeconds
        else { throw XMLScanner.Malformed() }
        return Object(key: key, byteCount: byteCount, modifiedSeconds: modifiedSeconds)
      case nil: throw XMLScanner.Malformed()
      }
    }
  }
}

/// What a server says of an error, as far as it can be read.
package struct S3ErrorDocument: Sendable, Hashable {
  package static let maximumByteCount = 64 << 10

  /// Such as `NoSuchBucket`.
  package var code: String?
  /// Where the bucket is.
  package var region: String?
  package var endpoint: String?

  package init(xml: [UInt8]) {
    var scanner = XMLScanner(xml)
    // What comes before a fault in the document counts.
    do {
      while let event = try scanner.next() {
        switch event {
        case .start("Code") where code == nil: code = Self.word(try scanner.textOfElement())
        case .start("Region") where region == nil: region = Self.word(try scanner.textOfElement())
        case .start("Endpoint") where endpoint == nil:
          endpoint = Self.word(try scanner.textOfElement())
        default: continue
        }
      }
    } catch {}
  }

  /// A word that can be shown: a stranger's text is not.
  private static func word(_ text: [UInt8]) -> String? {
    let isWord = text.allSatisfy {
      switch $0 {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"),
        UInt8(ascii: ":"), UInt8(ascii: "_"):
        true
      default: false
      }
    }
    guard (1...255).contains(text.count), isWord else { return nil }
    return String(decoding: text, as: UTF8.self)
  }
}
