import Testing
import VMCheckpoint
import VMCheckpointFormats
import VMCheckpointProbes

/// What QEMU shows of its memory must agree with what its objects say before RAM is read in place.
@Suite struct QEMUMemoryTreeTests {
  /// As QEMU 7.2 prints it, shortened: a guest of 4 GiB in two blocks, with ROMs, a video card and the
  /// memory of system management mode over them.
  private static let text = """
    FlatView #0
     AS "cpu-smm-0", root: memory
     Root memory region: memory
      0000000000000000-00000000000bffff (prio 0, ram): m1 @0000000000001000

    FlatView #1
     AS "memory", root: system
     AS "cpu-memory-0", root: system
     Root memory region: system
      0000000000000000-000000000009ffff (prio 0, ram): m0
      00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
      00000000000c0000-00000000000c9fff (prio 0, rom): m0 @00000000000c0000
      0000000000100000-000000003fffffff (prio 0, ram): m0 @0000000000100000
      0000000040000000-000000007effffff (prio 0, ram): m1
      000000007f000000-000000007fffffff (prio 1, i/o): tseg-blackhole
      00000000fd000000-00000000fdffffff (prio 1, ram): m0.vram
      0000000100000000-000000017fffffff (prio 0, ram): m1 @0000000040000000

    FlatView #2
     AS "I/O", root: io
     Root memory region: io
      0000000000000000-0000000000000007 (prio 0, i/o): m0

    """.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\r\n")

  private static let gibibyte: UInt64 = 1 << 30

  private func agrees(
    _ text: String = text,
    low: UInt64 = 2 << 30,
    highGPA: UInt64 = 4 << 30,
    blocks: [(name: String, byteCount: UInt64)] = [("m0", gibibyte), ("m1", 3 * gibibyte)]
  ) throws -> Bool {
    let byteCount = blocks.reduce(0) { $0 + $1.byteCount }
    let layout = try RAMLayout(regions: [
      MemoryRegion(gpa: 0, byteCount: low, fileOffset: 0, name: "low"),
      MemoryRegion(gpa: highGPA, byteCount: byteCount - low, fileOffset: low, name: "high"),
    ])
    return QEMUMemoryTreeProbe.agrees(text, with: layout, blocks: blocks)
  }

  @Test func whatTheGuestSeesAgrees() throws {
    #expect(try agrees())
    // Under KVM its name follows.
    #expect(try agrees(Self.text.replacing("\r\n", with: " KVM\r\n")))
  }

  @Test func anotherPlaceIsNoticed() throws {
    #expect(try !agrees(low: 3 << 30))
    #expect(try !agrees(highGPA: 5 << 30))
    #expect(try !agrees(blocks: [("m1", 3 << 30), ("m0", 1 << 30)]))
    #expect(try !agrees(blocks: [("m0", 1 << 30), ("m1", 2 << 30)]))
    #expect(try !agrees(blocks: [("other", 4 << 30)]))
    #expect(try !agrees(Self.text.replacing("m1 @0000000040000000", with: "m1")))
    #expect(try !agrees(Self.text.replacing("m1 @0000000040000000", with: "other")))
    #expect(try !agrees(Self.text.replacing("0000000100000000-", with: "0000000100000800-")))
    #expect(try !agrees(Self.text.replacing("m0.vram", with: "m0")))
  }

  /// The answer comes from another process.
  @Test(arguments: [
    "", "FlatView #1", "FlatView #1\n AS \"memory\", root: system\n  x", "FlatView #1\r\n\r\n",
    " AS \"memory\",\n  ffffffffffffffff-ffffffffffffffff (prio 0, ram): m0 @ffffffffffffffff",
    " AS \"memory\",\n  0000000000000000-ffffffffffffffff (prio 0, ram): m0",
    " AS \"memory\",\n  0000000000001000-0000000000000000 (prio 0, ram): m0",
    " AS \"memory\",\n  0-00000000003fffffff (prio 0, ram): m0 @00",
  ])
  func nonsenseNeverAgrees(text: String) throws {
    #expect(try !agrees(text))
  }
}
