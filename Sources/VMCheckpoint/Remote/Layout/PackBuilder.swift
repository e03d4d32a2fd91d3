/// Makes a pack in memory: about 16 MiB, ready to be put.
///
/// Handed from thread to thread; the thread that has it uses it alone.
package final class PackBuilder: @unchecked Sendable {
  package private(set) var id = RemoteID()
  /// The data; after ``finish()`` the whole object.
  package private(set) var bytes: [UInt8] = []
  private var table = ByteWriter()
  private var digests: [UInt8] = []
  package private(set) var entryCount = 0
  /// Where each entry begins.
  package private(set) var offsets: [UInt64] = []
  /// The footer and its trailer, after ``finish()``.
  package private(set) var footerByteCount = 0

  package init() {
    bytes.reserveCapacity(RemoteLimits.packByteCount + RemoteLimits.packByteCount / 8)
  }

  package var isEmpty: Bool { entryCount == 0 }
  /// Whether another entry would make it longer than packs are.
  package func isFull(for storedByteCount: Int) -> Bool {
    entryCount > 0
      && (bytes.count + storedByteCount > RemoteLimits.packByteCount
        || digests.count >= RemoteLimits.digestsOfPack * PageDigest.byteCount)
  }

  /// Begins another pack in the same memory.
  package func begin() {
    id = RemoteID()
    bytes.removeAll(keepingCapacity: true)
    table = ByteWriter(capacity: 8192)
    digests.removeAll(keepingCapacity: true)
    entryCount = 0
    offsets.removeAll(keepingCapacity: true)
  }

  /// Adds an entry.
  ///
  /// - Parameter digests: 32 bytes for each page, or for the part.
  /// - Returns: The entry's number.
  package func add(
    _ kind: PackFooter.EntryKind,
    pageCount: Int,
    stored: UnsafeRawBufferPointer,
    digests: UnsafeRawBufferPointer
  ) -> Int {
    offsets.append(UInt64(bytes.count))
    bytes.append(contentsOf: stored)
    table.byte(kind.rawValue)
    table.byte(UInt8(pageCount))
    table.little16(0)
    table.little32(UInt32(stored.count))
    self.digests.append(contentsOf: digests)
    defer { entryCount += 1 }
    return entryCount
  }

  /// Adds a chunk's stored form.
  package func add(_ chunk: ChunkBuffer) -> Int {
    add(
      chunk.encoding == .lz4 ? .lz4Chunk : .rawChunk,
      pageCount: chunk.pageCount,
      stored: UnsafeRawBufferPointer(rebasing: chunk.stored[..<chunk.storedByteCount]),
      digests: UnsafeRawBufferPointer(
        rebasing: chunk.digests[..<(chunk.pageCount * PageDigest.byteCount)]
      )
    )
  }

  /// Of pages and parts until now.
  package var digestCount: Int { digests.count / PageDigest.byteCount }

  /// Calls `body` with digests, 32 bytes each.
  package func withDigests(from first: Int, count: Int, _ body: (UnsafeRawBufferPointer) -> Void) {
    digests.withUnsafeBytes { bytes in
      let start = first * PageDigest.byteCount
      body(UnsafeRawBufferPointer(rebasing: bytes[start..<(start + count * PageDigest.byteCount)]))
    }
  }

  /// Hashes the data, and appends footer and trailer.
  package func finish() {
    let dataByteCount = bytes.count
    var hasher = SHA256Hasher()
    bytes.withUnsafeBytes { hasher.update($0) }
    var footer = ByteWriter(
      capacity: table.bytes.count + digests.count + PackFooter.trailerByteCount
    )
    footer.append(table.bytes)
    footer.append(digests)
    footer.append(PackFooter.magic)
    footer.little32(0)
    footer.little32(UInt32(entryCount))
    footer.little64(UInt64(dataByteCount))
    footer.append([UInt8](repeating: 0, count: 64))
    id.append(to: &footer)
    footer.append(hasher.finalize())
    footer.append(SHA256Hasher.hash(footer.bytes))
    footerByteCount = footer.bytes.count
    bytes.append(contentsOf: footer.bytes)
  }

  /// Footer and trailer as they are in the object.
  package var footer: ArraySlice<UInt8> { bytes.suffix(footerByteCount) }
}
