import GRDB

/// The footers of a manifest's packs, by number: those in use in memory, the others in the store.
///
/// Memory: 64 footers of at most half a megabyte, and such as the store does not keep.
struct PackFooters {
  private static let loadedCount = 64
  /// Footers that are read at a time, and in memory then.
  private static let batchCount = 32

  private let database: Database
  private let link: RemoteLink
  private let table: PackTable
  let packs: [RemoteID]
  /// The packs' rows.
  let rows: [Int64]
  private var loaded: [Int: PackFooter] = [:]
  private var order: [Int] = []

  /// Reads the footers that the store does not have, and notes all packs.
  ///
  /// - Throws: As ``RemoteLink/footer(of:)``, or `DatabaseError`.
  init(
    _ database: Database,
    _ link: RemoteLink,
    remoteID: Int64,
    packs: [RemoteID],
    control: OperationControl
  ) throws {
    self.database = database
    self.link = link
    self.packs = packs
    let table = PackTable(database, remoteID: remoteID)
    self.table = table
    var found = try packs.map { try table.row(of: $0) }
    let unknown = packs.indices.filter { found[$0] == nil }
    for start in stride(from: 0, to: unknown.count, by: Self.batchCount) {
      try control.cancellation.check()
      let numbers = Array(unknown[start...].prefix(Self.batchCount))
      let footers = try SideBySide.map(numbers.map { packs[$0] }) {
        (pack) throws(VMCheckpointError) in
        let (_, bytes, byteCount) = try link.footer(of: pack)
        return (bytes: bytes, byteCount: byteCount)
      }
      // No transaction waits for the network.
      try database.inTransaction(.immediate) {
        for (number, footer) in zip(numbers, footers) {
          found[number] = try table.insert(
            packs[number],
            byteCount: footer.byteCount,
            footer: footer.bytes
          )
        }
        return .commit
      }
    }
    rows = found.map { $0! }
  }

  /// The footer of the pack with this number.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` when there is no such pack; as
  ///   ``RemoteLink/footer(of:)``.
  mutating func footer(_ number: Int) throws -> PackFooter {
    if let footer = loaded[number] { return footer }
    guard packs.indices.contains(number) else {
      throw VMCheckpointError.corrupt("the manifest names a pack that it does not list")
    }
    let footer: PackFooter
    if let stored = try table.footer(of: packs[number]),
      let kept = try? PackFooter(
        stored.footer[...],
        of: packs[number],
        packByteCount: stored.byteCount
      )
    {
      footer = kept
    } else {
      footer = try link.footer(of: packs[number]).footer
    }
    if order.count >= Self.loadedCount { loaded[order.removeFirst()] = nil }
    order.append(number)
    loaded[number] = footer
    return footer
  }
}
