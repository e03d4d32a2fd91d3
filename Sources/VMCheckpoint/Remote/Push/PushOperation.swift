import Foundation
import GRDB

/// One push: a snapshot of the store becomes one of a remote.
///
/// The data's way: which chunks the snapshot has → which of them, or of their pages, the remote has → packs of the rest
/// → an index run of these packs → the manifest, which makes all of it count.
///
/// While the network is waited for, no transaction of the store is open, and the chunks' lock is not held. When it is
/// taken again, the snapshot has to have its pages where they were (``PushedPages``).
///
/// What was sent is noted in the store pack by pack, so that a push after one that was killed finds it.
struct PushOperation {
  /// What became of the snapshot in the remote.
  enum Outcome {
    case pushed
    case wasThere
    /// It was there, and has got the working set that was recorded here.
    case gaveWorkingSet
  }

  /// Pages looked for at a time: some 24 MiB.
  private static let roundPageCount = 256 << 10
  /// Snapshots of the same VM whose packs are looked through first.
  private static let relativeCount = 4
  /// Footers that are read side by side.
  private static let footersAtOnce = 8
  /// A chunk is packed anew when the remote has at least one in so many of its pages.
  private static let repackingShare = 4

  /// No chunk of the store has it.
  private static let targetNumber = ChunkNumbers.firstProvisional

  private let database: Database
  private let link: RemoteLink
  private let remoteID: Int64
  private let snapshot: SnapshotRow
  private let control: OperationControl
  private let hold: ChunksHold
  private let packs: PackTable
  private let chunkPlaces: ChunkPlaceTable
  private let upload: PackUpload

  private var session: RemoteSession
  private var condemned = Set<RemoteID>()
  private var places = PagePlaces()
  /// Once the lock was taken first.
  private var pages: PushedPages?
  private var known = KnownPacks()
  private var indexRun = IndexRunObject()

  private let reader: ChunkReader
  private let decoder: LZ4FrameDecoder
  private let check: PageCheck
  private let fingerprinter: PageFingerprinter
  private let compressor: ChunkCompressor
  private let source: ChunkBuffer
  private let target: ChunkBuffer
  /// The pages of the store that are in `target`, by slot.
  private var targetPages: [PageLocation] = []
  private var open: PackUpload.Item?
  private var progress: ProgressReporter

  /// What it did.
  struct Totals {
    var sentPackCount = 0
    var sentByteCount: UInt64 = 0
    var sentPageCount: UInt64 = 0
    /// Distinct pages of the snapshot that the remote had.
    var reusedPageCount: UInt64 = 0
    var manifestByteCount = 0
  }
  private(set) var totals = Totals()

  init(
    _ database: Database,
    _ link: RemoteLink,
    remoteID: Int64,
    _ snapshot: SnapshotRow,
    _ hold: ChunksHold,
    control: OperationControl
  ) throws {
    self.database = database
    self.hold = hold
    self.link = link
    self.remoteID = remoteID
    self.snapshot = snapshot
    self.control = control
    packs = PackTable(database, remoteID: remoteID)
    chunkPlaces = try ChunkPlaceTable(database, remoteID: remoteID)
    reader = try ChunkReader(database)
    decoder = try LZ4FrameDecoder()
    check = try PageCheck(database, verifyingDigests: false)
    upload = PackUpload(link, check, title: snapshot.title)
    fingerprinter = try StoreSeed(database).fingerprinter
    compressor = try ChunkCompressor(ChunkCompression.default.effort)
    source = try ChunkBuffer()
    target = try ChunkBuffer()
    // Rule 1 of ``RemoteSession``: it is there before the lists are read.
    target.begin(chunkID: Self.targetNumber)
    session = try RemoteSession(link)
    progress = ProgressReporter(control, phase: "pushing", totalByteCount: nil)
  }

  /// - Throws: ``PushedPages/Moved``; ``VMCheckpointError``; `DatabaseError`.
  mutating func run() throws -> Outcome {
    defer {
      hold.drop()
      session.end()
    }
    condemned = try CondemnedLists(database, link, remoteID: remoteID).load()
    let earlier = try earlierManifest()
    if let found = earlier.found {
      let set = try WorkingSetTable(database)
        .newer(than: found.head.facts.workingSet?.recordedAt, for: snapshot)
      guard let set else { return .wasThere }
      // Rule 1: no manifest that comes now may name a condemned pack.
      guard condemned.isDisjoint(with: found.head.packs) else {
        control.onWarning?(
          "\(snapshot.title) keeps the working set that it has in \(link.transport.title): a collection has "
            + "condemned packs that it needs, so that its manifest has to stay"
        )
        return .wasThere
      }
      let update = WorkingSetUpdate(database, link, remoteID: remoteID, snapshot)
      let isDone = try update.run(
        set,
        found.facts.key,
        generation: earlier.nextGeneration,
        &session
      )
      return isDone ? .gaveWorkingSet : .wasThere
    }

    try hold.take()
    let pages = try PushedPages(snapshot, database, control.cancellation)
    self.pages = pages
    let (facts, body) = try store(pages.used) { operation, deviceStates in
      let places = operation.places
      let facts = try PushedFacts(
        operation.database,
        operation.snapshot,
        layout: pages.layout,
        overlays: pages.overlays
      ).facts(deviceStates: deviceStates, place: places.place)
      return (facts, try operation.body(pages.absent))
    }
    if !indexRun.isEmpty {
      try link.put(RemoteNames.indexRun(RemoteID()), indexRun.encode())
    }

    try session.renewIfNeeded()
    let manifest = try Manifest.encode(
      facts,
      packs: places.packs,
      deadlineSeconds: session.deadlineSeconds,
      body: body
    )
    let key = RemoteNames.manifest(
      vm: snapshot.vm,
      name: snapshot.name,
      generation: earlier.nextGeneration,
      RemoteID()
    )
    totals.manifestByteCount = manifest.count
    try control.cancellation.check()
    try session.commit(key, manifest)
    try database.inTransaction(.immediate) {
      try RemoteSnapshotTable(database, remoteID: remoteID).insert(
        uuid: snapshot.uuid,
        vm: snapshot.vm,
        manifest: key,
        packs: places.packs
      )
      return .commit
    }
    return .pushed
  }

  /// The manifest of the snapshot that the remote has, if it has one, and which generation a new one would be.
  private func earlierManifest() throws -> (
    found: (facts: RemoteObjectFacts, head: Manifest.Head)?, nextGeneration: UInt32
  ) {
    let folder = RemoteNames.manifests(vm: snapshot.vm, name: snapshot.name)
    var next: UInt32 = 1
    var newest: (facts: RemoteObjectFacts, head: Manifest.Head)?
    for facts in try link.list(folder) {
      guard let generation = RemoteNames.generation(ofManifest: facts.key) else { continue }
      if newest != nil, generation &+ 1 < next { continue }
      next = max(next, generation &+ 1)
      guard let head = try ManifestHeads.read(facts, link) else { continue }
      guard head.facts.uuid == snapshot.uuid else {
        throw VMCheckpointError(
          .cannotCreate,
          "\(link.transport.title) has another snapshot \(quotedName(snapshot.name)) of the VM "
            + quotedName(snapshot.vm),
          hint: "delete that one with: vmckpt remote delete, or save under another name"
        )
      }
      newest = (facts, head)
    }
    return (newest, next)
  }

  // MARK: The lock

  private mutating func retake() throws {
    try hold.take()
    guard var pages else { return }
    try pages.requireUnmoved(database, control.cancellation)
    self.pages = pages
  }

  /// Runs `body`, which waits for the network, while others may have the chunks.
  private mutating func unlocked<Result>(
    _ body: (inout PushOperation) throws -> Result
  ) throws -> Result {
    try database.endReading()
    hold.drop()
    let result = try body(&self)
    try retake()
    return result
  }

  // MARK: Pages

  /// Gives every chunk and every device state a place, and sends what the remote does not have.
  ///
  /// - Parameter describe: Called with the places of the device states, when all places are known.
  /// - Returns: What that returned, when the server has all.
  private mutating func store<Description>(
    _ used: UsedChunks,
    describe: (inout PushOperation, [[ManifestFacts.Place]]) throws -> Description
  ) throws -> Description {
    let total = UInt64(used.ids.count * ChunkFormat.byteCapacity)
    progress = ProgressReporter(control, phase: "pushing", totalByteCount: total)
    let threadCount = min(control.threadCount, 4)
    let items = (0..<(threadCount + 1)).map { _ in PackUpload.Item() }
    let upload = upload
    return try WorkerPool<PackUpload.Item>.run(
      threadCount: threadCount,
      items: items,
      makeWorker: { () throws(VMCheckpointError) in try upload.makeSender() },
      produce: { pool in
        try storeChunks(used, pool)
        let states = try storeDeviceStates(pool)
        try submitOpen(pool)
        let description = try describe(&self, states)
        hold.drop()
        try pool.drain()
        // Chunks that are others by now are not noted.
        let isAsBefore = (try? retake()) != nil
        try noteSent(withPlaces: isAsBefore)
        hold.drop()
        return description
      }
    )
  }

  private mutating func storeChunks(
    _ used: UsedChunks,
    _ pool: WorkerPool<PackUpload.Item>
  ) throws {
    var (next, isFirstRound) = (0, true)
    var round: [Int] = []
    while next < used.ids.count {
      try database.beginReading()
      round.removeAll(keepingCapacity: true)
      var pageCount = 0
      while next < used.ids.count, pageCount < Self.roundPageCount {
        try control.cancellation.check()
        let count = used.slots[next].nonzeroBitCount
        if let place = try chunkPlaces.place(ofChunk: used.ids[next]),
          !condemned.contains(place.pack)
        {
          places.set(chunk: used.ids[next], in: place.pack, entry: place.entry)
          totals.reusedPageCount += UInt64(count)
        } else {
          round.append(next)
          pageCount += count
        }
        next += 1
      }
      guard !round.isEmpty else { break }
      if isFirstRound { try unlocked { try $0.addRelatives() } }
      isFirstRound = false
      let found = try find(round, used)
      for (index, chunk) in round.enumerated() {
        try database.beginReading()
        try store(used.ids[chunk], used.slots[chunk], found: found[index], pool)
        if index % 128 == 127 { try database.endReading() }
        if index % 16 == 0 {
          try control.cancellation.check()
          progress.report(
            completedByteCount: UInt64((next - round.count + index) * ChunkFormat.byteCapacity)
          )
        }
      }
    }
    try database.endReading()
    try writeTarget(pool)
  }

  /// The footers of the packs that the VM's other snapshots need.
  private mutating func addRelatives() throws {
    let table = RemoteSnapshotTable(database, remoteID: remoteID)
    let relatives = try table.newest(ofVM: snapshot.vm, count: Self.relativeCount)
    try add(relatives.flatMap(\.packs))
  }

  /// Adds the footers of packs, in their order, but of such as are condemned or gone.
  private mutating func add(_ wanted: [RemoteID]) throws {
    let footers = StoredFooters(packs, link)
    let wanted = wanted.filter { !condemned.contains($0) }
    for start in stride(from: 0, to: wanted.count, by: Self.footersAtOnce) where !known.isFull {
      let batch = wanted[start...].prefix(Self.footersAtOnce).filter { !known.has($0) }
      for footer in try footers.footers(of: batch, database) { known.add(footer) }
    }
  }

  /// Looks for the pages of the round's chunks.
  ///
  /// - Returns: For each chunk the slots that were found.
  private mutating func find(_ round: [Int], _ used: UsedChunks) throws -> [UInt16] {
    var found = [UInt16](repeating: 0, count: round.count)
    let runs = IndexRuns(database, link, remoteID: remoteID)
    var listed: [RemoteObjectFacts]?
    if known.isEmpty {
      listed = try unlocked { _ in try runs.list() }
      // The remote has nothing.
      if listed!.isEmpty { return found }
    }
    var wanted = try wantedPages(round, used)
    var places = places
    func note(_ page: WantedPages.Page, _ there: KnownPacks.Found) {
      let location = PageLocation(chunkID: used.ids[round[page.chunk]], slot: page.slot)
      places.set(location, in: there.pack, entry: there.entry, slot: there.slot)
      found[page.chunk] |= 1 << UInt16(page.slot)
    }
    let asked = known.find(from: 0, &wanted, note)
    if wanted.leftCount > 0, !known.isFull {
      try unlocked { operation in
        try operation.add(runs.packs(holding: wanted, listed ?? runs.list()))
      }
      _ = known.find(from: asked, &wanted, note)
    }
    self.places = places
    return found
  }

  private func wantedPages(_ round: [Int], _ used: UsedChunks) throws -> WantedPages {
    try database.beginReading()
    defer { try? database.endReading() }
    let digests = try DigestReader(database)
    var wanted = WantedPages(
      capacity: round.reduce(0) { $0 + used.slots[$1].nonzeroBitCount }
    )
    for (index, chunk) in round.enumerated() {
      for (slot, digest) in try digests.all(used.ids[chunk]).enumerated()
      where used.slots[chunk] & 1 << UInt16(slot) != 0 {
        wanted.add(digest, chunk: index, slot: slot)
      }
    }
    return wanted
  }

  /// Sends a chunk as it is, or the pages of it that the remote does not have.
  private mutating func store(
    _ chunkID: Int64,
    _ slots: UInt16,
    found: UInt16,
    _ pool: WorkerPool<PackUpload.Item>
  ) throws {
    totals.reusedPageCount += UInt64(found.nonzeroBitCount)
    guard found != slots else { return }
    if let problem = try reader.load(chunkID, into: source) {
      let isElsewhere = try ChunkPresence.onlyInRemotes(database).contains(chunkID)
      throw isElsewhere ? Store.pagesAreElsewhere(snapshot) : upload.damage(chunkID, problem)
    }
    guard slots >> source.pageCount == 0 else {
      throw VMCheckpointError.corrupt("\(snapshot.title) names slots that chunk \(chunkID) lacks")
    }
    if found.nonzeroBitCount * Self.repackingShare < slots.nonzeroBitCount {
      let item = try room(for: source.storedByteCount, pool)
      let entry = item.add(source)
      places.set(chunk: chunkID, in: item.builder.id, entry: entry)
      totals.sentPageCount += UInt64(source.pageCount)
      return
    }
    if let problem = source.decompress(with: decoder, check: check) {
      throw upload.damage(chunkID, problem)
    }
    for slot in 0..<source.pageCount where slots & ~found & 1 << UInt16(slot) != 0 {
      _ = target.append(source.page(slot).baseAddress!, digest: source.digest(slot))
      targetPages.append(PageLocation(chunkID: chunkID, slot: slot))
      if target.isFull { try writeTarget(pool) }
    }
  }

  /// Sends the pages that were gathered in `target`.
  private mutating func writeTarget(_ pool: WorkerPool<PackUpload.Item>) throws {
    guard target.pageCount > 0 else { return }
    target.compress(with: compressor, fingerprinter)
    let item = try room(for: target.storedByteCount, pool)
    let entry = item.builder.add(target)
    for (slot, page) in targetPages.enumerated() {
      places.set(page, in: item.builder.id, entry: entry, slot: slot)
    }
    totals.sentPageCount += UInt64(target.pageCount)
    targetPages.removeAll(keepingCapacity: true)
    target.begin(chunkID: Self.targetNumber)
  }

  /// The parts of the device states, each with its place.
  private mutating func storeDeviceStates(
    _ pool: WorkerPool<PackUpload.Item>
  ) throws -> [[ManifestFacts.Place]] {
    try StoredDeviceParts(database, snapshot).map { part throws in
      let item = try room(for: part.count, pool)
      let digest = SHA256Hasher.hash(part)
      let entry = part.withUnsafeBytes { bytes in
        digest.withUnsafeBytes {
          item.builder.add(.devicePart, pageCount: 0, stored: bytes, digests: $0)
        }
      }
      return .init(pack: places.number(of: item.builder.id), entry: UInt32(entry), slot: 0)
    }
  }

  /// A pack with room for an entry; sends the one before.
  private mutating func room(
    for storedByteCount: Int,
    _ pool: WorkerPool<PackUpload.Item>
  ) throws -> PackUpload.Item {
    if let open, !open.builder.isFull(for: storedByteCount) { return open }
    try submitOpen(pool)
    let item = try pool.takeFreeAtOnce() ?? unlocked { _ in try pool.takeFree() }
    item.begin()
    open = item
    return item
  }

  private mutating func submitOpen(_ pool: WorkerPool<PackUpload.Item>) throws {
    guard let item = open, !item.builder.isEmpty else { return }
    open = nil
    pool.submit(item)
    try noteSent()
    let hold = hold
    if hold.isLong || session.needsRenewal {
      try unlocked { operation in
        try operation.session.renewIfNeeded()
        hold.pause()
      }
    }
  }

  /// Notes in the store which packs the server has.
  ///
  /// - Parameter withPlaces: Whether the chunks are still those that were sent, and so where they are.
  private mutating func noteSent(withPlaces: Bool = true) throws {
    for sent in upload.takeSent() {
      try database.endReading()
      try database.inTransaction(.immediate) {
        let id = try packs.insert(sent.id, byteCount: sent.byteCount, footer: sent.footer[...])
        for place in withPlaces ? sent.places : [] {
          let (chunkID, entry, offset) = place
          try chunkPlaces.insert(chunkID, inPack: id, entry: entry, offset: offset)
        }
        return .commit
      }
      totals.sentPackCount += 1
      totals.sentByteCount += sent.byteCount
      indexRun.add(try PackFooter(sent.footer[...], of: sent.id, packByteCount: sent.byteCount))
    }
  }

  // MARK: Manifest

  private func body(_ absent: AbsentPages) throws -> [UInt8] {
    var writer = ManifestBodyWriter()
    var extents = try ExtentReader(database, snapshotID: snapshot.id)
    defer { extents.reset() }
    while let extent = try extents.next() {
      for index in 0..<Int(extent.pageCount) {
        writer.add(
          pfn: extent.firstPFN + UInt64(index),
          at: try places.place(of: extent.location(at: index))
        )
      }
    }
    let table = WorkingSetTable(database)
    // An ancestor's serves as well, and who fetches this snapshot may not have that one.
    let workingSet = try table.workingSet(for: snapshot)
    return writer.finish(absent: absent.runs, workingSet: workingSet?.runs ?? [])
  }
}
