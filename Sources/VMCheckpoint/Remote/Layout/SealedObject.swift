/// An object of a remote with its own SHA-256, whatever the server checks.
///
///     OFFSET  SIZE  DESCRIPTION
///          0     8  `vmckobj1`
///          8     4  what it is: ``Kind``
///         12     4  how it is encrypted: 0, not at all
///         16     8  the payload's length
///         24    64  for the key of an encrypted one: zeros
///         88     …  the payload
///          …    32  the SHA-256 of all before
///
/// Numbers are little-endian.
package struct SealedObject {
  /// What a payload is.
  package enum Kind: UInt32, Sendable {
    case manifestHead = 1
    case manifestBody = 2
    case indexRun = 3
    case condemnedPacks = 4
    case session = 5
    case seenManifests = 6
    case catalog = 7
  }

  static let headByteCount = 88
  /// What a payload is longer by.
  package static let overheadByteCount = headByteCount + PageDigest.byteCount
  private static let magic = Array("vmckobj1".utf8)
  private static let keyByteCount = 64

  /// Makes an object of a payload.
  package static func seal(_ kind: Kind, _ payload: [UInt8]) -> [UInt8] {
    var writer = ByteWriter(capacity: payload.count + overheadByteCount)
    writer.append(magic)
    writer.little32(kind.rawValue)
    writer.little32(0)
    writer.little64(UInt64(payload.count))
    writer.append([UInt8](repeating: 0, count: keyByteCount))
    writer.append(payload)
    return writer.bytes + SHA256Hasher.hash(writer.bytes)
  }

  /// The length of the object that begins with `head`.
  ///
  /// - Parameter head: ``headByteCount`` bytes at least.
  /// - Throws: As ``open(_:_:title:)``.
  static func byteCount(
    of head: ArraySlice<UInt8>,
    _ kind: Kind,
    title: String
  ) throws(VMCheckpointError) -> UInt64 {
    var reader = ByteReader(head, title: title)
    guard try reader.slice(magic.count).elementsEqual(magic) else { throw reader.damage }
    guard try reader.little32() == kind.rawValue else { throw reader.damage }
    guard try reader.little32() == 0 else {
      throw VMCheckpointError(
        .unavailable,
        "\(title) is encrypted in a way that this vmckpt does not know",
        hint: "use the vmckpt that wrote it, or a newer one"
      )
    }
    let payloadByteCount = try reader.little64()
    guard payloadByteCount < 1 << 40 else { throw reader.damage }
    return payloadByteCount + UInt64(overheadByteCount)
  }

  /// The payload of an object that is all of `bytes`.
  ///
  /// - Throws: ``VMCheckpointError``: `corrupt` when it is another kind of object, or does not have its SHA-256;
  ///   `unavailable` when it is encrypted in a way that is not known.
  package static func open(
    _ bytes: ArraySlice<UInt8>,
    _ kind: Kind,
    title: String
  ) throws(VMCheckpointError) -> ArraySlice<UInt8> {
    let byteCount = try byteCount(of: bytes, kind, title: title)
    guard UInt64(bytes.count) == byteCount else {
      throw .corrupt("\(title) is damaged: it has \(bytes.count) bytes instead of \(byteCount)")
    }
    let content = bytes.dropLast(PageDigest.byteCount)
    var hasher = SHA256Hasher()
    content.withUnsafeBytes { hasher.update($0) }
    guard hasher.finalize().elementsEqual(bytes.suffix(PageDigest.byteCount)) else {
      throw .corrupt("\(title) is damaged: it does not have its SHA-256")
    }
    return content.dropFirst(headByteCount)
  }
}
