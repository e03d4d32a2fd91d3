import Glibc
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

@Suite struct PollingStoreTests {
  /// A VMM that shows its snapshots while another one saves.
  @Test func listingNeverFailsWhileAnotherConnectionSaves() throws {
    let directory = try TemporaryDirectory()
    let (ram, storePath) = (directory.file("ram"), directory.file("store.db"))
    try writeSparseFile(ram, incompressibleRAM(8000, seed: 1))
    let saver = try Store.openOrCreate(at: storePath)
    let reader = try Store.open(at: storePath)
    let saves = ThreadResult {
      Result {
        for index in 0..<3 {
          _ = try saver.save(
            SaveRequest(input: .file(path: ram), name: "s\(index)", vm: "vm\(index)")
          )
        }
        return true
      }
    }
    var counts: [Int] = []
    while counts.last != 3 {
      counts.append(try reader.snapshots().count)
      usleep(1000)
      if counts.count > 200_000 { break }
    }
    #expect(try saves.wait().get())
    #expect(counts == counts.sorted(), "a snapshot that was there went away")
    #expect(counts.last == 3)
  }
}
