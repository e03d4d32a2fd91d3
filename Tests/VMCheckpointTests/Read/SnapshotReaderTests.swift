import Foundation
import Synchronization
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

@Suite("Snapshot reader")
struct SnapshotReaderTests {
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// RAM in two regions with a hole between, overlays in both.
  private func saveGuest(_ name: String, seed: UInt64, into store: String? = nil) throws -> [UInt8]
  {
    let ram = sampleRAM(512, seed: seed)
    var overlays = OverlayDocument(guestOSID: 1, records: [])
    for pfn: UInt64 in [3, 200, 0x1000, 0x10ff] {
      let fill = UInt8(truncatingIfNeeded: pfn) | 1
      let contents = PageContents(Array(repeating: fill, count: 4096))!
      for parameters: OverlayParameters in [.vpAssist(contents), .hypercall(.vmcall)].prefix(
        pfn == 200 ? 2 : 1
      ) {
        overlays.records.append(
          OverlayRecord(overlay: Overlay(pfn: PFN(rawValue: pfn)!, parameters: parameters))
        )
      }
    }
    let regions = [
      MemoryRegion(gpa: 0, byteCount: 256 << 12, fileOffset: 0, name: "low"),
      MemoryRegion(gpa: 0x1000 << 12, byteCount: 256 << 12, fileOffset: 256 << 12, name: "high"),
    ]
    _ = try Store.save(
      SaveRequest(
        input: .file(path: try bench.write("\(name).ram", ram)),
        layout: .regions(try RAMLayout(regions: regions)),
        name: name,
        overlays: overlays
      ),
      toStoreAt: store ?? bench.storePath
    )
    return ram
  }

  private func restored(_ name: String, _ overlays: OverlayTreatment) throws -> [UInt8] {
    let path = bench.directory.file("restored")
    _ = try Store.open(at: bench.storePath).restore(
      RestoreRequest(
        reference: SnapshotReference(name),
        output: .file(path: path),
        overlays: overlays,
        overwrites: true
      )
    )
    return Array(try Data(contentsOf: URL(filePath: path)))
  }

  private func reader(
    _ name: String,
    _ overlays: OverlayTreatment = .apply,
    cache: ChunkCache? = nil
  ) throws -> SnapshotReader {
    try SnapshotReader(
      storePath: bench.storePath,
      reference: SnapshotReference(name),
      overlays: overlays,
      cache: cache
    )
  }

  /// Reads `rounds` random ranges; returns how many differ from the flat image.
  private static func mismatches(
    _ reader: SnapshotReader,
    _ image: [UInt8],
    rounds: Int,
    seed: UInt64
  ) throws -> Int {
    var generator = TestGenerator(seed: seed)
    var count = 0
    for _ in 0..<rounds {
      let region = reader.layout.regions.randomElement(using: &generator)!
      let pageCount = Int(region.byteCount >> 12)
      let first = generator.int(0...pageCount - 1)
      let bytes = try read(
        reader,
        UInt64(first) + region.gpa >> 12,
        generator.int(1...min(40, pageCount - first))
      )
      let offset = Int(region.fileOffset) + first * 4096
      if bytes[...] != image[offset..<(offset + bytes.count)] { count += 1 }
    }
    return count
  }

  private static func read(
    _ reader: SnapshotReader,
    _ pfn: UInt64,
    _ pageCount: Int
  ) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0xee, count: pageCount * 4096)
    try bytes.withUnsafeMutableBytes { buffer in
      try reader.read(from: PFN(rawValue: pfn)!, into: buffer)
    }
    return bytes
  }

  @Test(.slow, arguments: OverlayTreatment.allCases)
  func threadsThatShareASmallCacheReadWhatARestoreWrites(overlays: OverlayTreatment) throws {
    let ram = try saveGuest("a", seed: 1)
    _ = try saveGuest("b", seed: 2)
    let expected = try restored("a", overlays)
    #expect((expected == ram) == (overlays == .omit))
    let cache = try ChunkCache(byteCapacity: 3 * 66_000)
    let reader = try reader("a", overlays, cache: cache)
    let threads = (0..<6).map { index in
      ThreadResult {
        Result { try Self.mismatches(reader, expected, rounds: 40, seed: UInt64(index)) }
      }
    }
    for thread in threads { #expect(try thread.wait().get() == 0) }
  }

  @Test func everyPageOfTheLayoutIsTheRestoredOne() throws {
    _ = try saveGuest("a", seed: 3)
    let expected = try restored("a", .apply)
    let reader = try reader("a")
    #expect(try Self.read(reader, 0, 256) + Self.read(reader, 0x1000, 256) == expected)
  }

  @Test("a page whose overlay is baked is made for the host that reads it, as a restore makes it")
  func bakedPages() throws {
    let ram = sampleRAM(16, seed: 8)
    let code: [UInt8] = [0x0f, 0x01, 0xc1, 0xc3]
    var baked = ram
    baked.replaceSubrange((3 * 4096)..<(3 * 4096 + 4), with: code)
    let overlays = try bench.write(
      "overlays.json",
      """
      {"format": 1, "guest_os_id": "0x8100060100000000",
       "overlays": [{"kind": "hypercall", "pfn": 3, "variant": "vmcall", "underlay": "unknown"}]}
      """
    )
    try bench.save("a", baked, "--overlays", overlays)
    for vendor: CPUVendor? in [nil, .amd] {
      let path = bench.directory.file("restored")
      _ = try Store.open(at: bench.storePath).restore(
        RestoreRequest(
          reference: SnapshotReference("a"),
          output: .file(path: path),
          overwrites: true,
          cpuVendor: vendor
        )
      )
      let expected = Array(try Data(contentsOf: URL(filePath: path)))
      #expect((expected == baked) == (vendor == nil))
      let reader = try SnapshotReader(
        storePath: bench.storePath,
        reference: SnapshotReference("a"),
        cpuVendor: vendor
      )
      #expect(try Self.read(reader, 0, 16) == expected)
    }
  }

  @Test func runsOfContentsAreWhatTheirBytesAre() throws {
    _ = try saveGuest("a", seed: 4)
    let reader = try reader("a")
    var pfn: UInt64 = 0
    var counts: [SnapshotReader.Content: UInt64] = [:]
    while pfn < 0x1200 {
      let (content, pageCount) = reader.content(at: PFN(rawValue: pfn)!)
      #expect(pageCount > 0)
      counts[content, default: 0] += min(pageCount, 0x1200 - pfn)
      switch content {
      case .zeros:
        let bytes = try Self.read(reader, pfn, Int(pageCount))
        #expect(bytes.allSatisfy { $0 == 0 })
      case .data:
        let bytes = try Self.read(reader, pfn, Int(pageCount))
        for page in 0..<Int(pageCount) {
          #expect(bytes[(page * 4096)...].prefix(4096).contains { $0 != 0 })
        }
      case .absent:
        Issue.record("no page is absent")
      case .outside:
        #expect(throws: VMCheckpointError.self) { try Self.read(reader, pfn, 1) }
      }
      pfn += pageCount
    }
    #expect(counts[.outside] == 0x1000 - 256 + 256)
    #expect((counts[.zeros] ?? 0) + (counts[.data] ?? 0) == 512)
    #expect(counts[.zeros] ?? 0 > 0)
  }

  /// Its pages' old place would read as zeros.
  @Test func anExtentAtOtherPFNsIsNoticed() throws {
    var ram = [UInt8](repeating: 0, count: 64 * 4096)
    ram.replaceSubrange((10 * 4096)..<(11 * 4096), with: incompressibleRAM(1))
    try bench.save("a", ram, "--vm", "v")
    try bench.sql.run("UPDATE ram_extent SET first_pfn = 20 WHERE first_pfn = 10")
    #expect(throws: VMCheckpointError.self) { try reader("a") }
    let shell = ExtensionShell(bench.storePath)
    for query in [
      "ram_read('a', 40960, 8)", "page_data('a', 10)", "page_view('a', 10)",
      "(SELECT state FROM page_history('v', 10))",
    ] {
      let outcome = try shell.start("SELECT \(query);")
      #expect(!outcome.succeeded, "\(outcome)")
    }
  }

  @Test func whatIsNotRAMIsRefused() throws {
    _ = try saveGuest("a", seed: 5)
    let reader = try reader("a")
    for (pfn, pageCount) in [(UInt64(256), 1), (255, 2), (0xfff, 1), (0x10ff, 2), (1 << 51, 1)] {
      #expect(throws: VMCheckpointError.self) { try Self.read(reader, pfn, pageCount) }
    }
    #expect(try Self.read(reader, 255, 1).count == 4096)
  }

  @Test(.slow) func readersGoOnWhileOthersMoveTheirChunks() throws {
    let ram = try saveGuest("kept", seed: 6)
    let expected = try restored("kept", .omit)
    #expect(expected == ram)
    // Shares chunks with what is deleted: gc then packs them anew.
    for index in 0..<3 {
      var other = ram
      for page in stride(from: index, to: 512, by: 3) {
        other.replaceSubrange((page * 4096)..<(page * 4096 + 8), with: [1, 2, 3, 4, 5, 6, 7, 8])
      }
      try bench.save("other\(index)", other)
    }
    try bench.tool.succeed("delete", "kept")
    _ = try saveGuest("kept", seed: 6)
    let cache = try ChunkCache(byteCapacity: 2 * 66_000)
    let reader = try reader("kept", .omit, cache: cache)
    let isDone = Mutex(false)
    let threads = (0..<3).map { index in
      ThreadResult {
        Result {
          var (count, rounds) = (0, 0)
          while !isDone.withLock({ $0 }) {
            rounds += 1
            count += try Self.mismatches(
              reader,
              expected,
              rounds: 20,
              seed: UInt64(index * 100_000 + rounds)
            )
          }
          return (count, rounds)
        }
      }
    }
    let store = try Store.open(at: bench.storePath)
    for index in 0..<3 {
      _ = try store.delete([SnapshotReference("other\(index)")])
      _ = try store.collectGarbage()
      _ = try store.optimize()
      try bench.save("new\(index)", sampleRAM(128, seed: UInt64(100 + index)))
    }
    isDone.withLock { $0 = true }
    for thread in threads {
      let (count, rounds) = try thread.wait().get()
      #expect(count == 0 && rounds > 0)
    }
  }

  @Test func aDeletedSnapshotIsNotFoundAndNeverZeros() throws {
    _ = try saveGuest("a", seed: 7)
    let reader = try reader("a", .omit, cache: ChunkCache(byteCapacity: 66_000))
    let stored = (0..<256).first { reader.content(at: PFN(rawValue: $0)!).content == .data }!
    _ = try Self.read(reader, UInt64(stored), 1)
    try bench.tool.succeed("delete", "a")
    let error = #expect(throws: VMCheckpointError.self) {
      for pfn in UInt64(0)..<256 { _ = try Self.read(reader, pfn, 1) }
    }
    #expect(error?.code == .notFound)
  }

  @Test(arguments: [
    "UPDATE chunk_data SET data = CAST(data || x'00' AS BLOB)",
    "UPDATE chunk_data SET data = zeroblob(length(data))",
    "UPDATE chunk SET digests = zeroblob(length(digests))",
    "PRAGMA ignore_check_constraints = ON; UPDATE chunk SET page_count = 1, digests = substr(digests, 1, 32)",
    "DELETE FROM chunk_data",
  ])
  func aDamagedChunkIsAnErrorAndNotItsBytes(sql: String) throws {
    let ram = try saveGuest("a", seed: 8)
    let reader = try reader("a", .omit, cache: ChunkCache(byteCapacity: 66_000))
    try bench.sql.run(sql)
    var failedCount = 0
    for pfn in 0..<256 {
      do {
        let content = reader.content(at: PFN(rawValue: UInt64(pfn))!).content
        let page = try Self.read(reader, UInt64(pfn), 1)
        #expect(content == .zeros)
        #expect(page[...] == ram[(pfn * 4096)...].prefix(4096))
      } catch let error as VMCheckpointError {
        failedCount += 1
        #expect(error.code == .corrupt)
      }
    }
    #expect(failedCount > 0)
  }

  @Test(arguments: [
    "DELETE FROM ram_extent WHERE rowid IN (SELECT rowid FROM ram_extent LIMIT 1)",
    "UPDATE ram_extent SET first_pfn = first_pfn + 10000",
    "UPDATE memory_region SET bytes = bytes + 4096 WHERE gpa > 0",
    "UPDATE overlay SET baked = 1",
  ])
  func aSnapshotThatLostWhatItHadIsNotOpened(sql: String) throws {
    _ = try saveGuest("a", seed: 9)
    let change =
      sql.hasPrefix("DELETE")
      ? "DELETE FROM ram_extent WHERE first_pfn = (SELECT min(first_pfn) FROM ram_extent)" : sql
    try bench.sql.run(change)
    let error = #expect(throws: VMCheckpointError.self) { try reader("a") }
    #expect(error?.code == .corrupt)
  }

  @Test(.slow) func twoCopiesOfAStoreMayShareACache() throws {
    _ = try saveGuest("first", seed: 10)
    let copy = bench.directory.file("copy.db")
    try FileManager.default.copyItem(atPath: bench.storePath, toPath: copy)
    let cache = try ChunkCache(byteCapacity: 1 << 20)
    // From here on the two give the same numbers to different chunks.
    let rams = [try saveGuest("x", seed: 11), try saveGuest("y", seed: 12, into: copy)]
    let readers = try [(bench.storePath, "x"), (copy, "y")].map { path, name in
      try SnapshotReader(
        storePath: path,
        reference: SnapshotReference(name),
        overlays: .omit,
        cache: cache
      )
    }
    for round in 0..<50 {
      for (reader, ram) in zip(readers, rams) {
        #expect(try Self.mismatches(reader, ram, rounds: 4, seed: UInt64(round)) == 0)
      }
    }
  }
}
