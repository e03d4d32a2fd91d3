import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// What the page index tells of pages that are gone.
@Suite struct StaleIndexTests {
  /// Merges leave the old runs' bytes in free pages of the file. After a gc not even eight bytes of a
  /// deleted page's digest may be there: they would tell who has a page that it was in the guest.
  @Test func aCollectionLeavesNothingOfDeletedPagesInTheIndex() throws {
    let directory = try TemporaryDirectory()
    let (source, storePath) = (directory.file("ram"), directory.file("store.db"))
    let store = try Store.openOrCreate(at: storePath)
    func save(_ name: String, _ ram: [UInt8]) throws {
      try writeSparseFile(source, ram)
      _ = try store.save(SaveRequest(input: .file(path: source), name: name, vm: name))
    }
    let secret = incompressibleRAM(300, seed: 99)
    try save("secret", secret)
    // Enough saves for several merges.
    for index in 0..<8 { try save("s\(index)", sampleRAM(30, seed: UInt64(index + 2))) }
    let prefixes = Set(
      stride(from: 0, to: secret.count, by: Page.byteCount).map { start in
        secret[start..<(start + Page.byteCount)].withUnsafeBytes {
          PageDigest(of: $0).description.prefix(16)
        }
      }.map { UInt64($0, radix: 16)! }
    )
    func foundCount() throws -> Int {
      var (count, window) = (0, UInt64(0))
      for byte in try readFile(storePath) {
        window = window << 8 | UInt64(byte)
        if prefixes.contains(window) { count += 1 }
      }
      return count
    }
    // In the chunks' rows, in the index, and in what merges have left.
    #expect(try foundCount() > 600)
    _ = try store.delete([SnapshotReference("secret")])
    _ = try store.collectGarbage()
    #expect(try foundCount() == 0)
    #expect(try store.verify().isSound)
  }
}
