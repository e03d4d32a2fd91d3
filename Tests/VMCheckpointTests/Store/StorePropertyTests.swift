import GRDB
import Glibc
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// Random operations on one store, each followed by a comparison with a slow reference model.
@Suite struct StorePropertyTests {
  @Test(.slow, arguments: 1...seedCount)
  func randomOperationsDoNotLoseOrMixUpPages(seed: Int) throws {
    var run = try StoreRun(seed: UInt64(seed))
    for step in 0..<24 {
      do {
        try run.step()
        try run.check()
      } catch {
        Issue.record("seed \(seed), step \(step), after \(run.log): \(error)")
        return
      }
    }
  }

  /// 12 in the ordinary suite; VMCKPT_SOAK_ROUNDS raises it.
  private static var seedCount: Int {
    max(12, environmentValue("VMCKPT_SOAK_ROUNDS").flatMap(Int.init) ?? 0)
  }
}

/// A store under test beside its model.
private struct StoreRun {
  private var generator: TestGenerator
  private let directory: TemporaryDirectory
  private let store: Store
  private let control: OperationControl
  private var model = StoreModel()
  private var pool: [[UInt8]] = []
  private var savedCount = 0
  private var hasDeleted = false
  private(set) var log: [String] = []

  init(seed: UInt64) throws {
    generator = TestGenerator(seed: seed)
    directory = try TemporaryDirectory()
    store = try Store.openOrCreate(at: directory.file("store.db"))
    var control = OperationControl(threadCount: [1, 2, 5][Int(seed % 3)])
    if seed % 4 == 0 { control.newPageCapacity = 32 }
    self.control = control
  }

  // MARK: Steps

  mutating func step() throws {
    let name = model.names.randomElement(using: &generator)
    switch (generator.int(0...9), name) {
    case (0...4, _), (_, nil): try save()
    case (5, let name?): try delete(name)
    case (6, _): try collect()
    case (7, let name?): try tag(name)
    case (8, let name?): try saveAgain(name)
    case (_, let name?): try restore(name)
    }
  }

  private mutating func save() throws {
    let pattern = RAMPattern.allCases.randomElement(using: &generator)!
    let pageCount = generator.oneIn(6) ? generator.int(300...700) : generator.int(1...120)
    let streams = generator.oneIn(3)
    let layout = try generator.layout(pageCount: pageCount, inOrder: streams)
    let flat = layout.clearingGaps(
      of: pattern.image(
        pageCount: Int(layout.fileByteCount) / Page.byteCount,
        pool: &pool,
        using: &generator
      )
    )
    let parent = generator.oneIn(3) ? nil : model.names.randomElement(using: &generator)
    savedCount += 1
    var snapshot = SnapshotModel(
      name: "s\(savedCount)",
      layout: layout,
      captured: flat,
      overlays: generator.overlays(in: layout),
      parent: parent
    )
    log.append("save \(snapshot.name) \(pattern) \(pageCount) pages, parent \(parent ?? "-")")
    snapshot.digest = try save(snapshot, flat, streams: streams, to: store).digest
    model.add(snapshot)
  }

  private func save(
    _ snapshot: SnapshotModel,
    _ flat: [UInt8],
    streams: Bool,
    to store: Store
  ) throws -> SaveResult {
    let path = directory.file("ram")
    try (streams ? writeFile : writeSparseFile)(path, flat)
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    defer { close(descriptor) }
    return try store.save(
      SaveRequest(
        input: streams ? .stream(fileDescriptor: descriptor, name: "ram") : .file(path: path),
        layout: .regions(snapshot.layout),
        name: snapshot.name,
        vm: "vm",
        parent: try snapshot.parent.map { .snapshot(try SnapshotReference($0)) } ?? .none,
        tags: snapshot.tags,
        overlays: snapshot.overlays
      ),
      control: control
    )
  }

  private mutating func delete(_ name: String) throws {
    log.append("delete \(name)")
    _ = try store.delete([SnapshotReference(name)], control: control)
    model.delete(name)
    hasDeleted = true
  }

  private mutating func collect() throws {
    log.append("gc")
    let before = try store.statistics().unfinishedSnapshotCount
    let result = try store.collectGarbage(control: control)
    try require(before == 0 && result.unfinishedSnapshotCount == 0, "nothing is unfinished")
  }

  private mutating func tag(_ name: String) throws {
    log.append("tag \(name)")
    let (key, value) = ("k\(generator.int(0...3))", "v\(generator.int(0...99))")
    _ = try store.tag(SnapshotReference(name), setting: [key: value])
    model.setTag(key, value, of: name)
  }

  private mutating func restore(_ name: String) throws {
    log.append("restore \(name)")
    let snapshot = model[name]!
    let streams = generator.oneIn(2)
    try require(
      restored(name, .apply, streams: streams) == snapshot.applied,
      "\(name) with overlays"
    )
    try require(restored(name, .omit, streams: !streams) == snapshot.bare, "bare \(name)")
  }

  private func restored(
    _ name: String,
    _ overlays: OverlayTreatment,
    streams: Bool,
    overlaysOut: String? = nil
  ) throws -> [UInt8] {
    let path = directory.file("restored")
    let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    defer { close(descriptor) }
    _ = try store.restore(
      RestoreRequest(
        reference: SnapshotReference(name),
        output: streams
          ? .stream(fileDescriptor: descriptor) : .file(path: path),
        overlays: overlays,
        overlaysOutputPath: overlaysOut,
        overwrites: true,
        verifiesPages: streams
      ),
      control: control
    )
    return try readFile(path)
  }

  /// What `--overlays-out` gives must, with the RAM, be the same snapshot again.
  private mutating func saveAgain(_ name: String) throws {
    log.append("save \(name) again")
    var again = model[name]!
    let path = directory.file("overlays-\(log.count).json")
    let treatment: OverlayTreatment = generator.oneIn(2) ? .apply : .omit
    let flat = try restored(name, treatment, streams: false, overlaysOut: path)
    again.overlays = try OverlayDocument(json: readFile(path))
    savedCount += 1
    again.name = "s\(savedCount)"
    again.parent = name
    again.tags = [:]
    let result = try save(again, flat, streams: false, to: store)
    try require(
      result.digest == again.digest,
      "\(name), restored with overlays \(treatment), is the same"
    )
    try require(result.newPageCount == 0, "a snapshot saved again has no new pages")
    var copy = SnapshotModel(
      name: again.name,
      layout: again.layout,
      captured: flat,
      overlays: again.overlays,
      parent: name
    )
    copy.digest = result.digest
    model.add(copy)
  }

  // MARK: Comparisons

  mutating func check() throws {
    let summaries = try store.snapshots()
    try require(summaries.map(\.name) == model.names, "names")
    try require(summaries.map(\.parent) == model.snapshots.map(\.parent), "parents")
    try require(summaries.map(\.tags) == model.snapshots.map(\.tags), "tags")
    try require(
      summaries.map(\.storedPageCount) == model.snapshots.map { UInt64($0.pages.count) },
      "stored pages"
    )
    try checkStoredOnce()
    let report = try store.verify(control: control)
    try require(report.isSound, "verify: \(report.problems)")
    guard let a = model.snapshots.randomElement(using: &generator),
      let b = model.snapshots.randomElement(using: &generator)
    else { return }
    try require(restored(a.name, .apply, streams: generator.oneIn(2)) == a.applied, a.name)
    let diff = try store.diff(SnapshotReference(a.name), SnapshotReference(b.name))
    try require(NaiveDiff(diff) == NaiveDiff(a, b), "diff \(a.name) \(b.name)")
    try require(diff.isIdentical == (a.digest == b.digest), "identity \(a.name) \(b.name)")
  }

  private func checkStoredOnce() throws {
    let (stored, distinct) = try DatabaseQueue(path: store.path).read { database in
      (
        try Int.fetchOne(database, sql: "SELECT coalesce(sum(page_count), 0) FROM chunk")!,
        try Int.fetchOne(database, sql: "SELECT count(DISTINCT digest) FROM chunk_page")!
      )
    }
    try require(stored == distinct, "\(stored) pages stored, \(distinct) of them distinct")
    let expected = model.distinctPageCount
    try require(
      hasDeleted ? stored >= expected : stored == expected,
      "\(stored) pages stored instead of \(expected)"
    )
  }

  private func require(_ condition: Bool, _ what: String) throws {
    guard condition else { throw TestSetupError("this does not hold: \(what)") }
  }
}
