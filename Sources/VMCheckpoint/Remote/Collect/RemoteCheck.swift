/// What a check of a remote found.
public struct RemoteCheckResult: Sendable, Hashable {
  /// Snapshots that count.
  public var snapshotCount: Int
  /// Manifests that do not count, since by the times of the objects they were put after their deadlines. A push that
  /// came too late leaves one, and gc removes it; in a remote that was copied, all may be such.
  public var voidManifestCount: Int
  /// Packs that they need.
  public var packCount: Int
  /// Packs whose data was read.
  public var readPackCount: Int
  /// Of these packs.
  public var readByteCount: UInt64
  /// What is wrong, a line each; at most 100 of them.
  public var problems: [String]
  /// How many there were in all.
  public var problemCount: Int
  /// Wall time.
  public var durationSeconds: Double

  /// Whether nothing is wrong.
  public var isSound: Bool { problemCount == 0 }
}

/// Checks that a remote has what its snapshots need: every manifest with its SHA-256, every pack's footer, every page that
/// a manifest names; and of some packs all data.
struct RemoteChecker {
  private static let maximumProblemCount = 100
  /// What is read of a pack at a time.
  private static let byteLimit = 4 << 20

  private let link: RemoteLink
  private let control: OperationControl

  init(_ link: RemoteLink, control: OperationControl) {
    self.link = link
    self.control = control
  }

  /// - Parameter readingPercent: Of the packs, chosen at random, whose data is read.
  /// - Throws: As ``RemoteTransport``; damage is a finding.
  func run(readingPercent: Double) throws -> RemoteCheckResult {
    let start = MonotonicClock.nowSeconds
    var result = RemoteCheckResult(
      snapshotCount: 0,
      voidManifestCount: 0,
      packCount: 0,
      readPackCount: 0,
      readByteCount: 0,
      problems: [],
      problemCount: 0,
      durationSeconds: 0
    )
    func note(_ problem: String) {
      result.problemCount += 1
      if result.problems.count < Self.maximumProblemCount { result.problems.append(problem) }
    }
    var void: [RemoteKey] = []
    let snapshots = try RemoteCatalog(link, control: control, onDamage: note)
      .heads { void.append($0) }
    result.snapshotCount = snapshots.count
    result.voidManifestCount = void.count
    do throws(VMCheckpointError) {
      let lostCount = try SeenManifests(link)
        .lostCount(void: void, validCount: snapshots.count)
      if lostCount > 0 { note(Self.lostManifests(lostCount, of: void.count + snapshots.count)) }
    } catch {
      guard error.isDamage else { throw error }
      note(error.message)
    }
    // By pack, so that each footer is read once.
    var packs = Set<RemoteID>()
    for (_, head) in snapshots { packs.formUnion(head.packs) }
    result.packCount = packs.count
    var shapes: [RemoteID: [UInt8]] = [:]
    var progress = ProgressReporter(
      control,
      phase: "checking",
      totalByteCount: UInt64(packs.count)
    )
    for (index, pack) in packs.sorted().enumerated() {
      try control.cancellation.check()
      do throws(VMCheckpointError) {
        let (footer, _, _) = try link.footer(of: pack)
        shapes[pack] = footer.entries.map { UInt8($0.pageCount) }
        if Double.random(in: 0..<100) < readingPercent {
          result.readByteCount += try readData(footer)
          result.readPackCount += 1
        }
      } catch {
        guard error.isDamage || error.code == .notFound else { throw error }
        note(error.message)
      }
      progress.report(completedByteCount: UInt64(index + 1))
    }
    for (entry, _) in snapshots {
      try control.cancellation.check()
      let title = "snapshot \(quotedName(entry.summary.name))"
      do {
        guard let manifest = try ManifestHeads.whole(entry.key, link) else { continue }
        try check(manifest, title, shapes, note)
      } catch let error as VMCheckpointError where error.isDamage {
        note("\(title): \(error.message)")
      }
    }
    result.durationSeconds = MonotonicClock.nowSeconds - start
    return result
  }

  private static func lostManifests(_ lostCount: Int, of count: Int) -> String {
    "\(lostCount) of \(count == 1 ? "1 manifest does" : "\(count) manifests do") not count: by the times of the "
      + "objects they were put after their deadlines. The remote was copied or restored, or a folder has lost its "
      + "'~vmckpt'. No snapshot of theirs can be pulled before you run: vmckpt remote adopt"
  }

  private func check(
    _ manifest: Manifest,
    _ title: String,
    _ shapes: [RemoteID: [UInt8]],
    _ note: (String) -> Void
  ) throws {
    let table = manifest.head.packs.map { shapes[$0] }
    var (pageCount, lostCount): (UInt64, UInt64) = (0, 0)
    func has(_ place: ManifestFacts.Place, _ count: Int) -> Bool {
      guard Int(place.pack) < table.count, let entries = table[Int(place.pack)],
        Int(place.entry) < entries.count
      else { return false }
      return Int(place.slot) + count <= Int(entries[Int(place.entry)])
    }
    try manifest.forEachItem { item in
      guard case .extent(_, let count, let place) = item else { return }
      pageCount += UInt64(count)
      if !has(place, count) { lostCount += UInt64(count) }
    }
    for overlay in manifest.head.facts.overlays {
      if let place = overlay.contents, !has(place, 1) { lostCount += 1 }
    }
    for part in manifest.head.facts.deviceStates.lazy.flatMap(\.parts) {
      let entries = Int(part.pack) < table.count ? table[Int(part.pack)] : nil
      if entries.map({ Int(part.entry) < $0.count && $0[Int(part.entry)] == 0 }) != true {
        note("\(title): a part of a device state is lost")
      }
    }
    if lostCount > 0 { note("\(title): \(lostCount) pages are lost") }
    if pageCount != manifest.head.facts.storedPages {
      note("\(title): it has \(pageCount) pages instead of \(manifest.head.facts.storedPages)")
    }
  }

  /// Reads all data of a pack.
  ///
  /// - Returns: How many bytes.
  private func readData(_ footer: PackFooter) throws(VMCheckpointError) -> UInt64 {
    let title = "\(link.transport.title): pack \(footer.id)"
    var hasher = SHA256Hasher()
    var offset: UInt64 = 0
    while offset < footer.dataByteCount {
      try control.cancellation.check()
      let count = Int(min(UInt64(Self.byteLimit), footer.dataByteCount - offset))
      let read = try link.part(
        RemoteNames.pack(footer.id),
        .bytes(offset: offset, count: count),
        count
      )
      guard let read, read.bytes.count == count else { throw .corrupt("\(title) is cut off") }
      read.bytes.withUnsafeBytes { hasher.update($0) }
      offset += UInt64(count)
    }
    guard hasher.finalize() == footer.dataDigest else {
      throw .corrupt("\(title): its data does not have its SHA-256")
    }
    return footer.dataByteCount
  }
}
