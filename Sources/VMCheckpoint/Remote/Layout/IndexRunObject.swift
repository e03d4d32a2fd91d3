/// A sorted run of a remote's page index: which packs hold pages whose SHA-256s begin so.
///
/// The payload of a ``SealedObject``:
///
///     SIZE  DESCRIPTION
///        4  packs
///        8  entries
///       16  for each pack: its ID
///       12  for each entry, ascending: the first 8 bytes of a SHA-256, as they are, and the pack's number
///
/// A run is a hint. It has one page of 32 of large packs, and all of small ones: whoever finds one of its pages there
/// reads the pack's footer, and finds the others.
package struct IndexRunObject: Sendable {
  private static let entryByteCount = 12
  private static let maximumPackCount = 1 << 22

  package private(set) var packs: [RemoteID] = []
  private var entries: [(prefix: UInt64, pack: UInt32)] = []

  package init() {}

  /// Which of a pack's pages a run has, by their number: one of so many.
  package static func sampling(pageCount: Int) -> UInt64 {
    switch pageCount {
    case ...512: 1
    case ...2048: 8
    default: 32
    }
  }

  package var isEmpty: Bool { entries.isEmpty }

  /// Adds the sample of a pack's pages.
  package mutating func add(_ footer: PackFooter) {
    let sampling = Self.sampling(pageCount: footer.entries.reduce(0) { $0 + $1.pageCount })
    let number = UInt32(packs.count)
    packs.append(footer.id)
    for entry in footer.entries where entry.pageCount > 0 {
      for slot in 0..<entry.pageCount {
        let prefix = footer.digest(entry.firstDigest + slot).prefix
        if prefix % sampling == 0 { entries.append((prefix, number)) }
      }
    }
  }

  /// The object.
  package mutating func encode() -> [UInt8] {
    entries.sort { ($0.prefix, $0.pack) < ($1.prefix, $1.pack) }
    var writer = ByteWriter(
      capacity: 12 + packs.count * RemoteID.byteCount + entries.count * Self.entryByteCount
    )
    writer.little32(UInt32(packs.count))
    writer.little64(UInt64(entries.count))
    for pack in packs { pack.append(to: &writer) }
    for entry in entries {
      writer.big64(entry.prefix)
      writer.little32(entry.pack)
    }
    return SealedObject.seal(.indexRun, writer.bytes)
  }

  /// The packs that a run names.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` or `unavailable`.
  package static func packs(
    _ object: ArraySlice<UInt8>,
    title: String
  ) throws(VMCheckpointError) -> [RemoteID] {
    var named = Set<RemoteID>()
    try forEachEntry(object, title: title) { _, pack in named.insert(pack) }
    return Array(named)
  }

  /// Calls `body` with each entry of a run, in ascending order of prefix, without keeping them.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` or `unavailable`.
  package static func forEachEntry(
    _ object: ArraySlice<UInt8>,
    title: String,
    _ body: (_ prefix: UInt64, _ pack: RemoteID) -> Void
  ) throws(VMCheckpointError) {
    let payload = try SealedObject.open(object, .indexRun, title: title)
    var reader = ByteReader(payload, title: title)
    let packCount = Int(try reader.little32())
    let entryCount = try reader.little64()
    guard packCount <= maximumPackCount, entryCount <= UInt64(payload.count / entryByteCount) else {
      throw reader.damage
    }
    var packs: [RemoteID] = []
    for _ in 0..<packCount { packs.append(try RemoteID(&reader)) }
    for _ in 0..<entryCount {
      let prefix = try reader.big64()
      let pack = Int(try reader.little32())
      guard pack < packs.count else { throw reader.damage }
      body(prefix, packs[pack])
    }
    try reader.requireEnd()
  }
}
