/// What a pack holds: the list at its end.
///
/// A pack is the stored forms of chunks, as `chunk_data` has them, and of parts of device states, one after the
/// other; then a footer and a trailer.
///
///     FOOTER, an entry     SIZE  DESCRIPTION
///                             1  1: a chunk as an LZ4 frame; 2: a chunk's bare pages; 3: part of a device state
///                             1  pages: 1 to 16; of a part of a device state 0
///                             2  zeros
///                             4  stored bytes
///     then, for each entry, the SHA-256s of its pages, or that of the part's bytes
///
///     TRAILER, OFFSET      SIZE  DESCRIPTION
///          0                  8  `vmckpak1`
///          8                  4  how it is encrypted: 0, not at all
///         12                  4  entries
///         16                  8  bytes before the footer
///         24                 64  for the key of an encrypted one: zeros
///         88                 16  the pack's ID
///        104                 32  the SHA-256 of the bytes before the footer
///        136                 32  the SHA-256 of the footer and of the trailer before this
///
/// Numbers are little-endian. Where an entry begins follows from the lengths of those before it.
package struct PackFooter: Sendable {
  package enum EntryKind: UInt8, Sendable {
    case lz4Chunk = 1
    case rawChunk = 2
    case devicePart = 3
  }

  package struct Entry: Sendable {
    package var kind: EntryKind
    /// 0 for a part of a device state.
    package var pageCount: Int
    package var storedByteCount: Int
    /// Where its bytes begin in the pack.
    package var offset: UInt64
    /// Which of the footer's digests is its first.
    package var firstDigest: Int

    package var digestCount: Int { max(pageCount, 1) }
  }

  static let entryByteCount = 8
  package static let trailerByteCount = 168
  /// More is in no pack: 64 MiB of chunks that hold a page each, and compress well.
  package static let maximumEntryCount = 1 << 20
  /// Of the longest footer that is read, with its trailer.
  package static let maximumByteCount = 64 << 20
  static let magic = Array("vmckpak1".utf8)

  package let id: RemoteID
  package let entries: [Entry]
  package let dataByteCount: UInt64
  /// Of all bytes before the footer.
  package let dataDigest: [UInt8]
  /// 32 bytes each.
  package let digests: [UInt8]

  /// Of the footer and its trailer.
  package var byteCount: Int {
    entries.count * Self.entryByteCount + digests.count + Self.trailerByteCount
  }

  package func digest(_ index: Int) -> PageDigest {
    digests.withUnsafeBytes {
      PageDigest(loadingFrom: $0.baseAddress! + index * PageDigest.byteCount)
    }
  }

  /// The length of footer and trailer of the pack that ends with `trailer`.
  ///
  /// - Returns: `nil` where the entries' pages must be counted first: at least so much is to be read then.
  package static func entryTableByteCount(
    _ trailer: ArraySlice<UInt8>,
    title: String
  ) throws(VMCheckpointError) -> (entryCount: Int, dataByteCount: UInt64) {
    var reader = ByteReader(trailer, title: title)
    guard try reader.slice(magic.count).elementsEqual(magic) else { throw reader.damage }
    guard try reader.little32() == 0 else {
      throw VMCheckpointError(
        .unavailable,
        "\(title) is encrypted in a way that this vmckpt does not know",
        hint: "use the vmckpt that wrote it, or a newer one"
      )
    }
    let entryCount = Int(try reader.little32())
    guard (1...maximumEntryCount).contains(entryCount) else { throw reader.damage }
    return (entryCount, try reader.little64())
  }

  /// Reads the footer of a pack out of its last bytes.
  ///
  /// - Parameters:
  ///   - bytes: Footer and trailer, exactly.
  ///   - id: Which pack it must be.
  ///   - packByteCount: The object's size.
  /// - Throws: ``VMCheckpointError``: `corrupt`; `unavailable` when it is encrypted in a way that is not known.
  package init(
    _ bytes: ArraySlice<UInt8>,
    of id: RemoteID,
    packByteCount: UInt64
  ) throws(VMCheckpointError) {
    let title = "pack \(id)"
    guard bytes.count > Self.trailerByteCount else { throw .corrupt("\(title) is damaged") }
    let trailer = bytes.suffix(Self.trailerByteCount)
    let (entryCount, dataByteCount) = try Self.entryTableByteCount(trailer, title: title)
    var reader = ByteReader(trailer.dropFirst(88), title: title)
    guard try RemoteID(&reader) == id else { throw .corrupt("\(title) is another pack") }
    dataDigest = Array(try reader.slice(PageDigest.byteCount))
    var hasher = SHA256Hasher()
    bytes.dropLast(PageDigest.byteCount).withUnsafeBytes { hasher.update($0) }
    guard hasher.finalize().elementsEqual(bytes.suffix(PageDigest.byteCount)) else {
      throw .corrupt("\(title) is damaged: its footer does not have its SHA-256")
    }
    guard dataByteCount == packByteCount - UInt64(bytes.count) else { throw reader.damage }

    var table = ByteReader(bytes.dropLast(Self.trailerByteCount), title: title)
    var entries: [Entry] = []
    entries.reserveCapacity(entryCount)
    var (offset, digestCount): (UInt64, Int) = (0, 0)
    for _ in 0..<entryCount {
      guard let kind = EntryKind(rawValue: try table.byte()) else { throw table.damage }
      let pageCount = Int(try table.byte())
      guard try table.little16() == 0 else { throw table.damage }
      let storedByteCount = Int(try table.little32())
      let isPossible =
        kind == .devicePart
        ? pageCount == 0 && (1...RemoteLimits.devicePartByteCount).contains(storedByteCount)
        : (1...ChunkFormat.pageCapacity).contains(pageCount)
          && (1...ChunkFormat.maximumStoredByteCount).contains(storedByteCount)
      guard isPossible else { throw table.damage }
      let entry = Entry(
        kind: kind,
        pageCount: pageCount,
        storedByteCount: storedByteCount,
        offset: offset,
        firstDigest: digestCount
      )
      entries.append(entry)
      offset += UInt64(storedByteCount)
      digestCount += entry.digestCount
    }
    guard offset == dataByteCount else { throw table.damage }
    digests = Array(try table.slice(digestCount * PageDigest.byteCount))
    try table.requireEnd()
    self.id = id
    self.entries = entries
    self.dataByteCount = dataByteCount
  }
}

/// Bounds of what a remote's objects hold.
package enum RemoteLimits {
  /// A pack is closed when it has so many bytes.
  package static let packByteCount = 16 << 20
  /// And when it has so many pages, so that its footer stays short.
  package static let digestsOfPack = 12_288
  /// Device states are stored in parts of this size.
  package static let devicePartByteCount = 8 << 20
  /// More packs are in no manifest.
  package static let packsOfManifest = 1 << 20
}
