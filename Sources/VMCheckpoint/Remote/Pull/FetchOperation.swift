import Foundation
import GRDB

/// One fetch: the facts of a remote's snapshot become rows of the store, without its pages.
///
/// Written in the order of a save: chunks' rows and the index, extents, overlays, device states; the snapshot's row turns
/// complete last, when its digests have been found right. Overlays' stored pages and device states come with their data,
/// since what describes a machine is read from them.
struct FetchOperation {
  /// Extents written in one transaction.
  private static let extentsPerTransaction = 20_000

  private let database: Database
  private let link: RemoteLink
  private let remoteID: Int64
  private let manifest: Manifest
  private let name: String
  private let control: OperationControl

  private var facts: ManifestFacts { manifest.head.facts }

  init(
    _ database: Database,
    _ link: RemoteLink,
    remoteID: Int64,
    _ manifest: Manifest,
    name: String,
    control: OperationControl
  ) {
    self.database = database
    self.link = link
    self.remoteID = remoteID
    self.manifest = manifest
    self.name = name
    self.control = control
  }

  /// - Returns: The complete snapshot.
  /// - Throws: ``VMCheckpointError``: `corrupt` when the manifest is not what it says; as ``RemoteLink``; or
  ///   `DatabaseError`. What was written is of an unfinished snapshot then.
  func run() throws -> SnapshotRow {
    let footers = try PackFooters(
      database,
      link,
      remoteID: remoteID,
      packs: manifest.head.packs,
      control: control
    )
    let imported = try ImportedSnapshot(database, facts, name: name)
    var pages = try FetchedPages(database, footers, remoteID: remoteID)
    var extents = try imported.extentWriter()
    var digester = RAMDigester()
    var absent = AbsentPages()
    var workingSet: [Range<UInt64>] = []
    let numbers = ChunkNumbers(1)
    func write(isEnd: Bool) throws {
      _ = try extents.write(numbers, isEnd: isEnd)
      if isEnd { try pages.finish() }
    }
    try database.beginTransaction(.immediate)
    try manifest.forEachItem { item in
      switch item {
      case .extent(let firstPFN, let pageCount, let place):
        try pages.add(place, count: pageCount, from: firstPFN, to: &extents, &digester)
        if extents.pendingCount >= Self.extentsPerTransaction {
          try control.cancellation.check()
          try write(isEnd: false)
          try database.commit()
          try database.beginTransaction(.immediate)
        }
      case .absent(let run): absent.append(run)
      case .workingSet(let run): workingSet.append(run)
      }
    }
    try write(isEnd: true)
    try database.commit()
    try imported.requireRAMDigest(digester.finalize())

    let contents = try overlayContents(&pages)
    try insertDeviceStates(imported)
    return try imported.finish(
      extents.tally,
      absent: absent,
      workingSet: workingSet,
      contents: contents
    )
  }

  /// Brings the pages that overlays keep, and says where each is.
  private func overlayContents(_ pages: inout FetchedPages) throws -> [PageLocation?] {
    var locations: [PageLocation?] = []
    try database.inTransaction(.immediate) {
      locations = try facts.overlays.map { overlay in
        var location: PageLocation?
        if let place = overlay.contents {
          try pages.pages(place, count: 1) { found, _ in location = found }
        }
        return location
      }
      try pages.finish()
      return .commit
    }
    let wanted = Set(locations.compactMap { $0?.chunkID }).sorted()
    try MissingChunks(database, link, remoteID: remoteID).bring(wanted, control: control)
    return locations
  }

  private func insertDeviceStates(_ imported: ImportedSnapshot) throws {
    let reader = try DevicePartReader(database, link, remoteID: remoteID, manifest.head.packs)
    for (position, state) in facts.deviceStates.enumerated() {
      try control.cancellation.check()
      // No transaction waits for the network.
      let data = try reader.bytes(of: state)
      try imported.insertDeviceState(at: position, state, Data(data))
    }
  }
}
