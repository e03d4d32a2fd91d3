import Foundation
import Testing
import VMCheckpointTestSupport

/// What saves write to disk beside what they store.
@Suite struct WrittenBytesTests {
  /// Journals and rewritten pages cost disks their life, and slow disks their time.
  @Test(.slow) func savesDoNotWriteMuchMoreThanTheStoreGrowsBy() throws {
    // Beside the built program, because /tmp may be no disk.
    let binaries = URL(fileURLWithPath: try VMCkptTool.path()).deletingLastPathComponent().path
    let bench = try Workbench(in: binaries)
    try bench.save("tiny", sampleRAM(1), "--vm", "vm")
    var generator = TestGenerator(seed: 12)
    // 40 MiB that does not compress and 20 MiB that does; then a tenth is new, eight times.
    var ram = incompressibleRAM(10_240, seed: 1) + sampleRAM(5120, seed: 2)
    var before = try fileSize(bench.storePath).byteCount
    var (written, grown) = (0, 0)
    for round in 0..<9 {
      if round > 0 {
        let page = generator.int(0...13_000)
        ram.replaceSubrange(
          (page * 4096)..<((page + 1536) * 4096),
          with: incompressibleRAM(1536, seed: UInt64(100 + round))
        )
      }
      let source = try bench.write("ram", ram)
      let outcome = try bench.tool.start(["save", source, "--name", "s\(round)", "--vm", "vm"])
        .wait()
      try #require(outcome.succeeded, "\(outcome)")
      let after = try fileSize(bench.storePath).byteCount
      try #require(outcome.writtenByteCount > 0, "the kernel does not count what is written here")
      if round == 0 {
        #expect(Double(outcome.writtenByteCount) <= 1.1 * Double(after - before))
      }
      written += outcome.writtenByteCount
      grown += after - before
      before = after
    }
    #expect(Double(written) <= 1.2 * Double(grown), "\(written) written, \(grown) grown")
  }
}
