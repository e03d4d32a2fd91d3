import Foundation
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// The bytes of a remote's objects.
@Suite struct RemoteLayoutTests {
  private static func facts(_ pageCount: UInt64) throws -> ManifestFacts {
    let json = """
      {"uuid": "12345678-1234-1234-1234-123456789abc", "name": "web/1", "vm": "web",
       "parent": {"uuid": "12345678-1234-1234-1234-123456789abd", "name": "web/0"},
       "startedAt": "2026-01-01T00:00:00.000Z", "completedAt": "2026-01-01T00:00:01.000Z",
       "source": "guest.ram", "producer": "vmckpt", "cpuVendor": "intel", "tscFrequencyHz": 1,
       "ramBytes": 4096, "storedPages": \(pageCount), "newPages": 0, "newStoredBytes": 0,
       "ramDigest": "", "digest": "", "tags": {"a": "b"}, "regions": [], "overlays": [],
       "deviceStates": []}
      """
    return try JSONDecoder().decode(ManifestFacts.self, from: Data(json.utf8))
  }

  private static let packs = (1...4).compactMap {
    RemoteID(String(repeating: "0", count: 31) + "\($0)")
  }

  /// Pages at random places, in order.
  private static func pages(
    _ count: Int,
    seed: UInt64
  ) -> [(pfn: UInt64, place: ManifestFacts.Place)] {
    var generator = TestGenerator(seed: seed)
    var pfn: UInt64 = 0
    var place = ManifestFacts.Place(pack: 0, entry: 0, slot: 0)
    return (0..<count).map { _ in
      pfn += UInt64(generator.int(0...9) == 0 ? generator.int(2...100_000) : 1)
      if place.slot == 15 || generator.int(0...5) == 0 {
        place = .init(
          pack: UInt32(generator.int(0...3)),
          entry: UInt32(generator.int(0...100_000)),
          slot: UInt8(generator.int(0...15))
        )
      } else {
        place = .init(pack: place.pack, entry: place.entry, slot: place.slot + 1)
      }
      return (pfn, place)
    }
  }

  private static func manifest(
    _ pages: [(pfn: UInt64, place: ManifestFacts.Place)]
  ) throws -> [UInt8] {
    var writer = ManifestBodyWriter()
    for page in pages { writer.add(pfn: page.pfn, at: page.place) }
    return try Manifest.encode(
      facts(UInt64(pages.count)),
      packs: packs,
      deadlineSeconds: 1_790_000_000,
      body: writer.finish(absent: [3..<9, 100..<101], workingSet: [50..<60, 2..<3])
    )
  }

  @Test("a manifest gives back every page, absent run and touch, in order", arguments: 1...8)
  func roundTrip(seed: UInt64) throws {
    let pages = Self.pages(3000, seed: seed)
    let manifest = try Manifest(Self.manifest(pages), title: "m")
    #expect(try manifest.head.facts == Self.facts(3000))
    #expect(manifest.head.packs == Self.packs && manifest.head.deadlineSeconds == 1_790_000_000)
    var read: [(UInt64, ManifestFacts.Place)] = []
    var (absent, touched): ([Range<UInt64>], [Range<UInt64>]) = ([], [])
    try manifest.forEachItem { item in
      switch item {
      case .extent(let first, let count, let place):
        for index in 0..<count {
          read.append(
            (
              first + UInt64(index),
              .init(pack: place.pack, entry: place.entry, slot: place.slot + UInt8(index))
            )
          )
        }
      case .absent(let run): absent.append(run)
      case .workingSet(let run): touched.append(run)
      }
    }
    #expect(read.count == pages.count)
    #expect(zip(read, pages).allSatisfy { $0.0 == $1.pfn && $0.1 == $1.place })
    #expect(absent == [3..<9, 100..<101] && touched == [50..<60, 2..<3])
  }

  /// Without the SHA-256 in the way: whoever can write an object can write that too.
  @Test("a body that a stranger made is an error at worst", arguments: 1...4)
  func hostileBodies(seed: UInt64) throws {
    var generator = TestGenerator(seed: seed)
    var writer = ManifestBodyWriter()
    for page in Self.pages(500, seed: seed) { writer.add(pfn: page.pfn, at: page.place) }
    let whole = writer.finish(absent: [3..<9], workingSet: [50..<60])
    for _ in 0..<400 {
      var body = whole
      for _ in 0...generator.int(0...3) {
        body[generator.int(0...(body.count - 1))] = UInt8(generator.int(0...255))
      }
      if generator.int(0...3) == 0 { body.removeLast(generator.int(1...body.count)) }
      let bytes = try Manifest.encode(
        Self.facts(500),
        packs: Self.packs,
        deadlineSeconds: 0,
        body: body
      )
      let manifest = try Manifest(bytes, title: "m")
      var count = 0
      do {
        try manifest.forEachItem { _ in
          count += 1
          if count > 1 << 20 { throw VMCheckpointError(.cancelled, "enough") }
        }
      } catch let error as VMCheckpointError {
        #expect([.corrupt, .cancelled].contains(error.code))
      }
    }
  }

  @Test("each byte of a manifest is proved by its SHA-256s")
  func damagedManifest() throws {
    let whole = try Self.manifest(Self.pages(40, seed: 1))
    // The places for keys are part of what is proved, too.
    for index in whole.indices {
      var bytes = whole
      bytes[index] ^= 1
      #expect(throws: VMCheckpointError.self) { try Manifest(bytes, title: "m") }
    }
    #expect(throws: VMCheckpointError.self) { try Manifest(Array(whole.dropLast()), title: "m") }
  }

  @Test("a pack lists what was put into it, and a damaged list is refused")
  func packs() throws {
    let builder = PackBuilder()
    builder.begin()
    let digests = (0..<5).flatMap { [UInt8](repeating: UInt8($0), count: 32) }
    let data = [UInt8](repeating: 7, count: 9000)
    for (kind, pageCount, range) in [
      (PackFooter.EntryKind.lz4Chunk, 3, 0..<3), (.rawChunk, 1, 3..<4), (.devicePart, 0, 4..<5),
    ] {
      data.withUnsafeBytes { data in
        digests.withUnsafeBytes { digests in
          _ = builder.add(
            kind,
            pageCount: pageCount,
            stored: UnsafeRawBufferPointer(rebasing: data[..<(1000 * range.count)]),
            digests: UnsafeRawBufferPointer(
              rebasing: digests[(range.lowerBound * 32)..<(range.upperBound * 32)]
            )
          )
        }
      }
    }
    builder.finish()
    let bytes = builder.bytes
    let footer = try PackFooter(builder.footer, of: builder.id, packByteCount: UInt64(bytes.count))
    #expect(footer.entries.map(\.pageCount) == [3, 1, 0])
    #expect(footer.entries.map(\.offset) == [0, 3000, 4000] && footer.dataByteCount == 5000)
    #expect(
      footer.digest(3)
        == PageDigest(
          words: (
            0x0303_0303_0303_0303, 0x0303_0303_0303_0303, 0x0303_0303_0303_0303,
            0x0303_0303_0303_0303
          )
        )
    )
    let whole = Array(builder.footer)
    for index in whole.indices {
      var damaged = whole
      damaged[index] ^= 0x10
      #expect(throws: VMCheckpointError.self) {
        try PackFooter(damaged[...], of: builder.id, packByteCount: UInt64(bytes.count))
      }
    }
    #expect(throws: VMCheckpointError.self) {
      try PackFooter(whole[...], of: RemoteID(), packByteCount: UInt64(bytes.count))
    }
  }

  @Test("remote.json is proved by its SHA-256, and says which remote it is")
  func description() throws {
    let description = RemoteDescription(leaseSeconds: 3600, marginSeconds: 300)
    let bytes = description.encode()
    #expect(try RemoteDescription(bytes[...], title: "r") == description)
    let text = String(decoding: bytes, as: UTF8.self).replacingOccurrences(of: "3600", with: "3601")
    #expect(throws: VMCheckpointError.self) {
      try RemoteDescription(Array(text.utf8)[...], title: "r")
    }
  }

  @Test("names of all kinds become keys, and no two the same")
  func names() {
    let names = ["a", "A", "a/b", "a_b", "..", "a:b", String(repeating: "x", count: 255)]
    let keys = names.map {
      RemoteNames.manifest(vm: $0, name: $0, generation: 1, RemoteID()).text.split(separator: "/")
    }
    #expect(Set(keys.map { "\($0[1])/\($0[2])" }).count == names.count)
    #expect(keys.allSatisfy { $0.count == 4 })
  }
}
