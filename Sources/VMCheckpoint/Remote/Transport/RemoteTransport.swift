/// A place where objects are kept under keys: one prefix of an object store's bucket, or a folder.
///
/// All that the remote's protocol asks of it are whole PUTs, ranged GETs, LIST, HEAD and DELETE, and that what
/// was put is listed and read from then on. Nothing relies on conditional requests: servers ignore them, or race.
/// Every time is the server's own, in whole seconds: clocks of hosts decide nothing. In a folder it never goes
/// backwards, and once a time is shown, all objects of earlier times are visible. The nodes of an object store may be
/// some seconds apart, which whoever compares times allows for.
///
/// Calls may come from several threads at once. Each retries what may go through later, and throws
/// ``VMCheckpointError``: `unavailable` when the server cannot be reached or fails, or the bucket is missing;
/// `permissionDenied` when it refuses the credentials; `invalidData` for an answer that no server gives; `cancelled`;
/// of a folder also `locked`, when another process holds its lock for too long, `cannotCreate` and `inputOutput`.
package protocol RemoteTransport: Sendable {
  /// For messages: such as `s3://bucket/prefix`.
  var title: String { get }

  /// Puts an object whole, in the place of one that is there.
  ///
  /// - Returns: What the server says of it afterwards, as ``head(_:)`` does. If another put the same key meanwhile,
  ///   that may be the other's.
  func put(
    _ key: RemoteKey,
    _ body: UnsafeRawBufferPointer
  ) throws(VMCheckpointError) -> RemoteObjectFacts

  /// What the server says of an object; `nil` when there is none.
  func head(_ key: RemoteKey) throws(VMCheckpointError) -> RemoteObjectFacts?

  /// Reads an object, or a part of it, to the end of `buffer` at most.
  ///
  /// - Returns: `nil` when there is no such object. Where the object ends before the range does, the bytes that
  ///   there are.
  /// - Throws: Also `invalidData` when the server sends more than was asked for.
  func get(
    _ key: RemoteKey,
    _ range: RemoteRange,
    into buffer: UnsafeMutableRawBufferPointer
  ) throws(VMCheckpointError) -> RemoteRead?

  /// Lists the objects whose keys begin with `prefix`, each once, a batch of at most a thousand a call.
  ///
  /// The keys of one folder come in ascending order of their bytes. Folders come in the server's order: by bytes,
  /// as AWS, Ceph and `file:` have it, or part by part, as SeaweedFS does (`a/x` before `a-b`).
  ///
  /// - Parameters:
  ///   - prefix: Ends with `/`, or is empty for all.
  ///   - start: Only keys after this one, in that order: one that was listed, or that could be beside such a one.
  ///   - body: Takes a batch; `false` ends the listing.
  func list(
    _ prefix: String,
    after start: RemoteKey?,
    _ body: ([RemoteObjectFacts]) throws(VMCheckpointError) -> Bool
  ) throws(VMCheckpointError)

  /// Deletes an object; one that is not there is no error.
  func delete(_ key: RemoteKey) throws(VMCheckpointError)

  /// The requests since the transport was made, for reports.
  var requestCounts: RemoteRequestCounts { get }
}

/// The key of an object below the remote's prefix: parts of letters, digits and `._-`, joined by `/`. No part is
/// `.` or `..`, or longer than a file's name may be, so that a key is a path too. A key and its beginning, as `a/b`
/// and `a`, cannot both be put into a folder.
package struct RemoteKey: Sendable, Hashable, Comparable, CustomStringConvertible {
  package static let maximumByteCount = 800
  /// Of one part: a file's name cannot be longer.
  package static let maximumPartByteCount = 255

  package let text: String

  /// `nil` for what is no key.
  package init?(_ text: String) {
    let parts = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    guard text.utf8.count <= Self.maximumByteCount,
      parts.allSatisfy(Self.isPart)
    else { return nil }
    self.text = text
  }

  /// What `/` separates.
  package var parts: [Substring] { text.split(separator: "/") }

  /// Whether a key can have this part.
  package static func isPart(_ part: some Collection<UInt8>) -> Bool {
    !part.isEmpty && part.count <= maximumPartByteCount && !part.elementsEqual(".".utf8)
      && !part.elementsEqual("..".utf8) && part.allSatisfy(isAllowed)
  }

  package var description: String { text }

  package static func < (first: Self, second: Self) -> Bool {
    first.text.utf8.lexicographicallyPrecedes(second.text.utf8)
  }

  private static func isAllowed(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
      UInt8(ascii: "-"):
      true
    default: false
    }
  }
}

/// Which bytes of an object.
package enum RemoteRange: Sendable, Hashable {
  case all
  /// So many bytes from an offset on.
  case bytes(offset: UInt64, count: Int)
  /// So many bytes at the end.
  case suffix(count: Int)

  /// The bytes of an object of this size.
  package func bounds(ofObjectWith byteCount: UInt64) -> Range<UInt64> {
    switch self {
    case .all: return 0..<byteCount
    case .bytes(let offset, let count):
      let start = min(offset, byteCount)
      return start..<start + min(UInt64(max(0, count)), byteCount - start)
    case .suffix(let count):
      return byteCount - min(UInt64(max(0, count)), byteCount)..<byteCount
    }
  }
}

/// What all listings have in common.
package enum RemoteListing {
  /// The most objects in a batch.
  package static let maximumBatchCount = 1000

  /// The parts of a prefix that ends with `/` or is empty.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument` for any other.
  package static func parts(ofPrefix prefix: String) throws(VMCheckpointError) -> [Substring] {
    if prefix.isEmpty { return [] }
    guard prefix.hasSuffix("/"), let key = RemoteKey(String(prefix.dropLast())) else {
      throw VMCheckpointError(.invalidArgument, "\(quotedName(prefix)) is not a prefix of keys")
    }
    return key.parts
  }

  /// Whether a key comes before another when keys are compared part by part.
  package static func precedesByParts(_ first: [UInt8], _ second: [UInt8]) -> Bool {
    // As if what separates parts were the smallest byte.
    func rank(_ byte: UInt8) -> UInt8 { byte == UInt8(ascii: "/") ? 0 : byte }
    return first.lexicographicallyPrecedes(second) { rank($0) < rank($1) }
  }
}

/// What a server says of an object.
package struct RemoteObjectFacts: Sendable, Hashable {
  package var key: RemoteKey
  package var byteCount: UInt64
  /// When the server took it whole, in seconds since 1970 by its clock. ``neverCommitted`` when the server does not
  /// know: a file that was copied into a folder without the record of its time.
  package var modifiedSeconds: Int64
  /// The server's clock when it answered; in a listing, when it made the batch. Of a read from a folder it may be
  /// older.
  package var serverSeconds: Int64

  /// A time after every deadline.
  package static let neverCommitted = Int64.max

  /// Whether the server knows when it took the object. One that was not committed counts for nothing.
  package var isCommitted: Bool { modifiedSeconds != Self.neverCommitted }

  package init(key: RemoteKey, byteCount: UInt64, modifiedSeconds: Int64, serverSeconds: Int64) {
    self.key = key
    self.byteCount = byteCount
    self.modifiedSeconds = modifiedSeconds
    self.serverSeconds = serverSeconds
  }
}

/// What was read of an object.
package struct RemoteRead: Sendable, Hashable {
  /// The bytes in the buffer.
  package var readByteCount: Int
  /// Of the whole object; `facts.byteCount` is its size.
  package var facts: RemoteObjectFacts

  package init(readByteCount: Int, facts: RemoteObjectFacts) {
    self.readByteCount = readByteCount
    self.facts = facts
  }
}

/// How many requests of each kind were sent, retries counted.
package struct RemoteRequestCounts: Sendable, Hashable, Codable {
  package var puts = 0
  package var lists = 0
  package var gets = 0
  package var heads = 0
  package var deletes = 0
  package var retries = 0
  package var sentByteCount: UInt64 = 0
  package var receivedByteCount: UInt64 = 0

  package init() {}
}
