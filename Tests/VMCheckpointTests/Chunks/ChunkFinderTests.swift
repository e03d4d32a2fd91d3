import Foundation
import GRDB
import Testing
import VMCheckpoint
import VMCheckpointCore
import VMCheckpointProbes
import VMCheckpointTestSupport

/// Chunks are asked for by what they hold: their numbers mean nothing in another store.
@Suite struct ChunkFinderTests {
  @Test func chunksGoFromStoreToStoreByWhatTheyHold() throws {
    let bench = try Workbench()
    let ram = sampleRAM(300, seed: 21)
    try bench.save("a", ram)
    let other = bench.directory.file("other.db")
    let digests = try DatabaseQueue(path: bench.storePath).read { database in
      try Row.fetchAll(database, sql: "SELECT digests FROM chunk").flatMap { row in
        let bytes = [UInt8](row["digests"] as Data)
        return stride(from: 0, to: bytes.count, by: 32).map { Array(bytes[$0..<($0 + 32)]) }
      }
    }
    let chunkCount = try bench.sql.integer("SELECT count(*) FROM chunk")
    #expect(
      try StoreProbe.copyChunks(holding: digests, from: bench.storePath, to: other) == chunkCount
    )
    #expect(try StoreProbe.copyChunks(holding: digests, from: bench.storePath, to: other) == 0)

    for digest in digests {
      let page = try #require(try StoreProbe.page(holding: digest, in: other))
      let found = page.withUnsafeBytes { PageDigest(of: $0) }
      #expect(found == digest.withUnsafeBytes { PageDigest(loadingFrom: $0.baseAddress!) })
    }
    #expect(try StoreProbe.page(holding: Array(repeating: 7, count: 32), in: other) == nil)

    // The other store has all pages: saving the guest there adds none.
    let saved = try Store.save(
      SaveRequest(input: .file(path: try bench.write("guest.ram", ram))),
      toStoreAt: other
    )
    #expect(saved.newPageCount == 0)
  }
}
