import Foundation

/// A snapshot in a remote: its facts, the packs that it needs, and where each page is in them.
///
/// The object is two ``SealedObject``s. The head is what lists and collections read:
///
///     SIZE  DESCRIPTION
///        8  the deadline: seconds since 1970 by the server's clock
///        4  the facts' length; they are JSON (``ManifestFacts``)
///        4  packs
///        8  the body's length
///       32  the body's SHA-256
///        …  the facts
///       16  for each pack: its ID
///
/// The body is the pages:
///
///     extents, as a varint; for each
///       pages between the end of the one before and its first, a varint
///       a byte: pages − 1 in the upper four bits, first slot in the lower
///       its pack, by number, and its entry: zigzag varints, as differences from those before
///     absent runs, as a varint; for each the distance from the one before, and the pages: varints
///     runs of the working set, as a varint; for each the first page, as a zigzag difference from the one before, and
///     the pages, a varint
///
/// A manifest counts only if the server took it no later than its deadline says: see ``RemoteSession``.
package struct Manifest: Sendable {
  package struct Head: Sendable {
    package var facts: ManifestFacts
    /// Which packs hold its pages; places name them by their number here.
    package var packs: [RemoteID]
    package var deadlineSeconds: Int64
    fileprivate var bodyByteCount: UInt64
    fileprivate var bodyDigest: [UInt8]
  }

  /// Facts of a snapshot with very many tags, overlays and device states.
  private static let maximumFactsByteCount = 64 << 20
  /// Of a guest of a few terabytes.
  package static let maximumByteCount: UInt64 = 4 << 30
  /// How much of a manifest is read at first: most heads are shorter.
  package static let headGuessByteCount = 64 << 10

  package let head: Head
  private let body: ArraySlice<UInt8>
  private let title: String

  // MARK: Writing

  /// Makes the object.
  package static func encode(
    _ facts: ManifestFacts,
    packs: [RemoteID],
    deadlineSeconds: Int64,
    body: [UInt8]
  ) throws(VMCheckpointError) -> [UInt8] {
    let sealedBody = SealedObject.seal(.manifestBody, body)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let json = try? encoder.encode(facts) else {
      throw VMCheckpointError(.invalidData, "the snapshot's facts cannot be written as JSON")
    }
    var head = ByteWriter(capacity: json.count + packs.count * RemoteID.byteCount + 64)
    head.little64(UInt64(bitPattern: deadlineSeconds))
    head.little32(UInt32(json.count))
    head.little32(UInt32(packs.count))
    head.little64(UInt64(sealedBody.count))
    head.append(SHA256Hasher.hash(sealedBody))
    head.append(json)
    for pack in packs { pack.append(to: &head) }
    return SealedObject.seal(.manifestHead, head.bytes) + sealedBody
  }

  /// The object with another deadline.
  package func encoded(deadlineSeconds: Int64) throws(VMCheckpointError) -> [UInt8] {
    try Self.encode(
      head.facts,
      packs: head.packs,
      deadlineSeconds: deadlineSeconds,
      body: Array(body)
    )
  }

  /// The object with another working set.
  package func encoded(
    deadlineSeconds: Int64,
    workingSet: ManifestFacts.WorkingSet,
    runs: [Range<UInt64>]
  ) throws -> [UInt8] {
    var writer = ManifestBodyWriter()
    var absent: [Range<UInt64>] = []
    try forEachItem { item in
      switch item {
      case .extent(let firstPFN, let pageCount, var place):
        for pfn in firstPFN..<(firstPFN + UInt64(pageCount)) {
          writer.add(pfn: pfn, at: place)
          place.slot += 1
        }
      case .absent(let run): absent.append(run)
      case .workingSet: break
      }
    }
    var facts = head.facts
    facts.workingSet = workingSet
    return try Self.encode(
      facts,
      packs: head.packs,
      deadlineSeconds: deadlineSeconds,
      body: writer.finish(absent: absent, workingSet: runs)
    )
  }

  // MARK: Reading

  /// How many bytes the head has of the manifest that begins with `bytes`.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` or `unavailable`.
  package static func headByteCount(
    _ bytes: ArraySlice<UInt8>,
    title: String
  ) throws(VMCheckpointError) -> Int {
    let count = try SealedObject.byteCount(of: bytes, .manifestHead, title: title)
    guard count <= UInt64(maximumFactsByteCount + RemoteLimits.packsOfManifest * RemoteID.byteCount)
    else { throw .corrupt("\(title) is damaged: its head is too long") }
    return Int(count)
  }

  /// Reads a head.
  ///
  /// - Parameter bytes: Exactly the head.
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` or `unavailable`.
  package static func head(
    _ bytes: ArraySlice<UInt8>,
    title: String
  ) throws(VMCheckpointError) -> Head {
    let payload = try SealedObject.open(bytes, .manifestHead, title: title)
    var reader = ByteReader(payload, title: title)
    let deadline = Int64(bitPattern: try reader.little64())
    let factsByteCount = Int(try reader.little32())
    let packCount = Int(try reader.little32())
    let bodyByteCount = try reader.little64()
    let bodyDigest = Array(try reader.slice(PageDigest.byteCount))
    guard factsByteCount <= maximumFactsByteCount, packCount <= RemoteLimits.packsOfManifest else {
      throw reader.damage
    }
    let json = Data(try reader.slice(factsByteCount))
    guard let facts = try? JSONDecoder().decode(ManifestFacts.self, from: json) else {
      throw reader.damage
    }
    var packs: [RemoteID] = []
    packs.reserveCapacity(packCount)
    for _ in 0..<packCount { packs.append(try RemoteID(&reader)) }
    try reader.requireEnd()
    return Head(
      facts: facts,
      packs: packs,
      deadlineSeconds: deadline,
      bodyByteCount: bodyByteCount,
      bodyDigest: bodyDigest
    )
  }

  /// Reads a whole manifest.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` or `unavailable`.
  package init(_ bytes: [UInt8], title: String) throws(VMCheckpointError) {
    let headByteCount = try Self.headByteCount(bytes[...], title: title)
    guard headByteCount <= bytes.count else { throw .corrupt("\(title) is damaged: it is cut off") }
    head = try Self.head(bytes[..<headByteCount], title: title)
    let sealed = bytes[headByteCount...]
    var hasher = SHA256Hasher()
    sealed.withUnsafeBytes { hasher.update($0) }
    guard UInt64(sealed.count) == head.bodyByteCount, hasher.finalize() == head.bodyDigest else {
      throw .corrupt("\(title) is damaged: its pages are those of another")
    }
    body = try SealedObject.open(sealed, .manifestBody, title: title)
    self.title = title
  }

  /// What the body lists, in order.
  package enum Item {
    case extent(firstPFN: UInt64, pageCount: Int, ManifestFacts.Place)
    case absent(Range<UInt64>)
    case workingSet(Range<UInt64>)
  }

  /// Calls `body` for each extent, each absent run and each run of the working set.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt`; what `body` throws.
  package func forEachItem(_ body: (Item) throws -> Void) throws {
    var reader = ByteReader(self.body, title: title)
    let endOfMemory = PFN.max.rawValue + 1
    var next: UInt64 = 0
    var (pack, entry): (UInt64, UInt64) = (0, 0)
    for _ in 0..<(try reader.varint(atMost: endOfMemory)) {
      let first = next + (try reader.varint(atMost: endOfMemory - next))
      let packed = try reader.byte()
      let (pageCount, slot) = (Int(packed >> 4) + 1, packed & 15)
      pack = try reader.zigzag(from: pack, atMost: UInt64(head.packs.count) &- 1)
      entry = try reader.zigzag(from: entry, atMost: UInt64(PackFooter.maximumEntryCount))
      guard !head.packs.isEmpty, first + UInt64(pageCount) <= endOfMemory,
        Int(slot) + pageCount <= ChunkFormat.pageCapacity
      else { throw reader.damage }
      try body(
        .extent(
          firstPFN: first,
          pageCount: pageCount,
          .init(pack: UInt32(pack), entry: UInt32(entry), slot: slot)
        )
      )
      next = first + UInt64(pageCount)
    }
    next = 0
    for _ in 0..<(try reader.varint(atMost: endOfMemory)) {
      let first = next + (try reader.varint(atMost: endOfMemory - next))
      let count = try reader.varint(atMost: endOfMemory - first)
      guard count > 0 else { throw reader.damage }
      next = first + count
      try body(.absent(first..<next))
    }
    var base: UInt64 = 0
    for _ in 0..<(try reader.varint(atMost: UInt64(WorkingSet.maximumRunCount))) {
      base = try reader.zigzag(from: base, atMost: endOfMemory - 1)
      let count = try reader.varint(atMost: endOfMemory - base)
      guard count > 0 else { throw reader.damage }
      try body(.workingSet(base..<(base + count)))
    }
    try reader.requireEnd()
  }
}

/// Writes the body of a ``Manifest``: extents first, then absent runs, then the working set.
package struct ManifestBodyWriter {
  private var extents = ByteWriter()
  private var extentCount: UInt64 = 0
  private var nextPFN: UInt64 = 0
  private var (pack, entry): (UInt32, UInt32) = (0, 0)
  /// The extent that the next page may continue.
  private var current: (firstPFN: UInt64, pageCount: Int, place: ManifestFacts.Place)?

  package init() {}

  /// Adds a page; PFNs must ascend.
  package mutating func add(pfn: UInt64, at place: ManifestFacts.Place) {
    if let extent = current {
      let end = extent.pageCount
      if pfn == extent.firstPFN + UInt64(end), place.pack == extent.place.pack,
        place.entry == extent.place.entry, Int(place.slot) == Int(extent.place.slot) + end
      {
        current?.pageCount += 1
        return
      }
      write(extent)
    }
    current = (pfn, 1, place)
  }

  /// The body.
  package mutating func finish(
    absent: [Range<UInt64>],
    workingSet: [Range<UInt64>]
  ) -> [UInt8] {
    if let current { write(current) }
    current = nil
    var body = ByteWriter(capacity: extents.bytes.count + 64)
    body.varint(extentCount)
    body.append(extents.bytes)
    body.varint(UInt64(absent.count))
    var next: UInt64 = 0
    for run in absent {
      body.varint(run.lowerBound - next)
      body.varint(UInt64(run.count))
      next = run.upperBound
    }
    body.varint(UInt64(workingSet.count))
    var base: UInt64 = 0
    for run in workingSet {
      body.zigzag(run.lowerBound, from: base)
      body.varint(UInt64(run.count))
      base = run.lowerBound
    }
    return body.bytes
  }

  private mutating func write(
    _ extent: (firstPFN: UInt64, pageCount: Int, place: ManifestFacts.Place)
  ) {
    extents.varint(extent.firstPFN - nextPFN)
    extents.byte(UInt8(extent.pageCount - 1) << 4 | extent.place.slot)
    extents.zigzag(UInt64(extent.place.pack), from: UInt64(pack))
    extents.zigzag(UInt64(extent.place.entry), from: UInt64(entry))
    (pack, entry) = (extent.place.pack, extent.place.entry)
    nextPFN = extent.firstPFN + UInt64(extent.pageCount)
    extentCount += 1
  }
}
