import Testing
import VMCheckpointTestSupport

/// A byte that changes anywhere in the file is found, or does no harm; nothing crashes, and no
/// restore that checks gives wrong bytes.
@Suite struct ByteFlipTests {
  private let bench: Workbench
  private let snapshots: [(name: String, ram: [UInt8])]
  private let original: [UInt8]

  init() throws {
    bench = try Workbench()
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(
        #"{"kind":"reference-tsc","pfn":10,"tsc_frequency_hz":2400000000}"#,
        #"{"kind":"synic-event","vp":0,"pfn":3,"contents":"\#(OverlayJSON.base64(sampleRAM(8).page(7)))"}"#
      )
    )
    snapshots = [("a", sampleRAM(100)), ("b", sampleRAM(60) + sampleRAM(60, seed: 3))]
    try bench.save("a", snapshots[0].ram, "--overlays", overlays)
    try bench.save("b", snapshots[1].ram, "--tag", "k=v")
    original = try readFile(bench.storePath)
  }

  @Test(.slow, arguments: 0..<4)
  func aFlippedByteIsFoundOrDoesNoHarm(part: Int) throws {
    var generator = TestGenerator(seed: UInt64(part))
    let pageCount = original.count / 4096
    for _ in 0..<soakRounds(45) {
      // Half of the flips hit the first bytes of a database page, where its structure is.
      let page = generator.int(0...(pageCount - 1)) * 4096
      let offset = page + (generator.oneIn(2) ? generator.int(0...160) : generator.int(0...4095))
      let bit = UInt8(1) << UInt8(generator.int(0...7))
      try writeFile(bench.storePath, original)
      try patchFile(bench.storePath, at: offset, [original[offset] ^ bit])
      try expectHarmlessOrFound("byte \(offset), bits \(bit)")
    }
  }

  @Test func aFileThatWasCutIsFound() throws {
    for share in [1, 100, 512, 4096, 10000, original.count / 2, original.count - 4096] {
      try writeFile(bench.storePath, Array(original.prefix(share)))
      try expectHarmlessOrFound("cut to \(share) bytes", mustBeFound: true)
    }
  }

  @Test(.slow) func aPageOfZerosIsFoundOrDoesNoHarm() throws {
    for page in 0..<(original.count / 4096) {
      try writeFile(bench.storePath, original)
      try patchFile(bench.storePath, at: page * 4096, [UInt8](repeating: 0, count: 4096))
      try expectHarmlessOrFound("page \(page) is zero")
    }
  }

  private func expectHarmlessOrFound(_ what: String, mustBeFound: Bool = false) throws {
    let verify = try bench.tool.run("verify")
    #expect(verify.endedOrderly, "\(what): \(verify)")
    let isSound = verify.succeeded
    #expect(!(mustBeFound && isSound), "\(what): \(verify)")
    for (name, ram) in snapshots {
      let path = bench.directory.file("out")
      let restore = try bench.tool.run(
        "restore",
        name,
        "-o",
        path,
        "--force",
        "--verify",
        "--overlays",
        "omit"
      )
      #expect(restore.endedOrderly, "\(what): \(restore)")
      if restore.succeeded {
        #expect(try readFile(path) == ram, "\(what): \(name) is wrong")
      } else {
        #expect(!isSound, "\(what): verify finds nothing wrong, but \(restore)")
      }
    }
  }
}
