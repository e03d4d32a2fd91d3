import Testing
import VMCheckpointTestSupport

/// A guest's memory read with the plain `sqlite3` shell is what was saved.
@Suite struct ScalarFunctionTests {
  private let bench: Workbench
  private let shell: ExtensionShell

  init() throws {
    bench = try Workbench()
    shell = ExtensionShell(bench.storePath)
  }

  @Test func everyPageReadsAsItWasSaved() throws {
    let ram = sampleRAM(64)
    try bench.save("a", ram, "--region", "gpa=0,size=160K", "--region", "gpa=1M,size=96K")
    let pages = try shell.run(
      "SELECT hex(page_data('a', value)) FROM generate_series(0, 300);"
    ).split(separator: "\n", omittingEmptySubsequences: false)
    #expect(pages.count == 301)
    for (pfn, page) in pages.enumerated() {
      let expected =
        switch pfn {
        case 0..<40: hexText(ram.page(pfn))
        case 256..<280: hexText(ram.page(pfn - 216))
        default: ""
        }
      #expect(page == expected, "PFN \(pfn)")
    }
  }

  /// A first page of a chunk is decoded alone, a second one with all others.
  @Test func pagesReadInAnyOrderAreThoseThatWereSaved() throws {
    let ram = sampleRAM(320, seed: 5)
    try bench.save("a", ram)
    var generator = TestGenerator(seed: 6)
    let pfns =
      (0..<400).map { _ in generator.int(0...319) } + (300..<320).reversed() + (0..<40)
    let sql = pfns.map { "SELECT hex(page_data('a', \($0)));\n" }.joined()
    let pages = try shell.run(sql).split(separator: "\n", omittingEmptySubsequences: false)
    let isRight = pages.elementsEqual(pfns.map { hexText(ram.page($0)) }) { $0 == $1 }
    #expect(isRight)
  }

  @Test func aDamagedPageIsAnErrorInEveryOrder() throws {
    var generator = TestGenerator(seed: 8)
    let ram = (0..<16).flatMap { _ in
      generator.incompressiblePage().prefix(3000) + [UInt8](repeating: 1, count: 1096)
    }
    try bench.save("a", ram)
    // The last bytes before the end mark and the checksum belong to the last page.
    try bench.sql.run(
      """
      UPDATE chunk_data SET data = CAST(substr(data, 1, length(data) - 1100) || x'5a5a5a'
        || substr(data, length(data) - 1096) AS BLOB)
      """
    )
    let damaged = try shell.failure("SELECT length(page_data('a', 15));")
    #expect(damaged.contains("chunk 1"), "\(damaged)")
    #expect(try shell.run("SELECT hex(page_data('a', 3));") == hexText(ram.page(3)))
    // What reads whole chunks compares their checksums.
    for reader in ["ram_search('a', 'x')", "ram_strings('a', 4)"] {
      let failure = try shell.failure("SELECT count(*) FROM \(reader);")
      #expect(failure.contains("chunk 1: its LZ4 frame is damaged"), "\(failure)")
    }
  }

  /// What a lost region held would read as no RAM.
  @Test func aSnapshotThatLostARegionIsAnError() throws {
    try bench.save("a", sampleRAM(64), "--region", "gpa=0,size=160K", "--region", "gpa=1M,size=96K")
    try bench.sql.run("DELETE FROM memory_region WHERE gpa > 0")
    for reader in ["SELECT ram_read('a', 0, 9);", "SELECT count(*) FROM ram_page('a');"] {
      let failure = try shell.failure(reader)
      #expect(
        failure.contains("its regions hold 163840 bytes, and its row says 262144"),
        "\(failure)"
      )
    }
  }

  @Test func readsAcrossPagesAndNeverBeyondRAM() throws {
    let ram = sampleRAM(64, seed: 3)
    try bench.save("a", ram, "--region", "gpa=0,size=160K", "--region", "gpa=1M,size=96K")
    var generator = TestGenerator(seed: 4)
    var sql = ""
    var expected: [String] = []
    for _ in 0..<100 {
      let start = generator.int(0...(40 * 4096 - 1))
      let length = generator.int(0...(3 * 4096))
      // X'…' without its beginning, or NULL.
      sql += "SELECT substr(quote(ram_read('a', \(start), \(length))), 3);\n"
      expected.append(
        start + length <= 40 * 4096 ? hexText(ram[start..<(start + length)]) + "'" : "LL"
      )
    }
    let rows = try shell.run(sql).split(separator: "\n", omittingEmptySubsequences: false)
    let isRight = rows.map(String.init) == expected
    #expect(isRight && expected.contains("LL"))
    #expect(
      try shell.run("SELECT hex(ram_read('a', '0x100fff', 2));")
        == hexText(ram[(40 * 4096 + 4095)..<(40 * 4096 + 4097)])
    )
    let beyond = try shell.run(
      "SELECT ram_read('a', -1, 2), ram_read('a', '0xffffffffffffffff', 1), ram_read('a', 1 << 52, 1);"
    )
    #expect(beyond == "||")
  }

  @Test func theGuestsViewHasTheActiveOverlay() throws {
    var generator = TestGenerator(seed: 7)
    let ram = (0..<40).flatMap { _ in generator.compressiblePage() }
    let message = generator.compressiblePage()
    let overlays = try bench.write(
      "o.json",
      OverlayJSON.document(
        #"{"kind":"synic-message","vp":3,"pfn":5,"contents":"\#(OverlayJSON.base64(message))"}"#,
        #"{"kind":"hypercall","pfn":5,"variant":"vmcall"}"#,
        #"{"kind":"synic-message","vp":1,"pfn":6,"contents":"\#(OverlayJSON.base64(message))"}"#,
        #"{"kind":"vp-assist","vp":0,"pfn":6,"contents":"\#(OverlayJSON.base64(ram.page(1)))"}"#,
        #"{"kind":"reference-tsc","pfn":7,"tsc_frequency_hz":2400000000,"underlay":"unknown"}"#,
        guestOSID: "0x8100060100000000"
      )
    )
    try bench.save("a", ram, "--overlays", overlays)
    let rows = try shell.run(
      "SELECT hex(page_view('a', column1)) FROM (VALUES (4), (5), (6), (7));"
    ).split(separator: "\n").map(String.init)
    #expect(
      rows
        == [ram.page(4), OverlayJSON.vmcall, message, ram.page(7)].map { hexText($0) }
    )
    #expect(try shell.run("SELECT hex(page_data('a', 5));") == hexText(ram.page(5)))
    // Each overlay of the stack by itself.
    let stack = try shell.run(
      """
      SELECT hex(overlay_contents(kind, parameters, contents_chunk_id, contents_slot))
        FROM overlay_stack WHERE pfn = 5 ORDER BY depth;
      """
    )
    #expect(stack == hexText(OverlayJSON.vmcall) + "\n" + hexText(message))
  }

  @Test func snapshotsAreNamedAsInCommands() throws {
    let first = sampleRAM(8, seed: 1)
    let second = sampleRAM(8, seed: 2)
    try bench.save("a", first, "--vm", "v")
    try bench.save("b", second, "--vm", "v")
    let uuid = try bench.sql.run("SELECT substr(uuid, 1, 13) FROM snapshot WHERE name = 'a'")
    for reference in ["'a'", "1", "'latest~1'", "'b~1'", "'\(uuid)'"] {
      let page = try shell.run("SELECT hex(ram_read(\(reference), 0, 32768));")
      #expect(page == hexText(first), "\(reference)")
    }
    #expect(try shell.run("SELECT hex(ram_read('latest', 0, 32768));") == hexText(second))
    #expect(try shell.failure("SELECT page_data('c', 0);").contains("no snapshot \"c\""))
    #expect(try shell.failure("SELECT page_data('b~2', 0);").contains("has 1 parent, not 2"))
    #expect(try shell.failure("SELECT page_data(7, 0);").contains("with the id 7"))
    #expect(try shell.failure("SELECT page_data(x'00', 0);").contains("must be a text"))
  }

  @Test func nothingComesOfNull() throws {
    try bench.save("a", sampleRAM(8))
    let result = try shell.run(
      """
      .nullvalue NULL
      SELECT page_data(NULL, 0), page_data('a', NULL), page_view('a', NULL),
             ram_read('a', 0, NULL), hexdump(NULL), page_sha256(NULL), lz4_frame_decode(NULL),
             overlay_contents('hypercall', NULL), pfn(NULL), gpa(NULL), msr_overlay(NULL, 1);
      """
    )
    #expect(result == Array(repeating: "NULL", count: 11).joined(separator: "|"))
  }

  @Test func bytesAndAddressesAreShownExactly() throws {
    try bench.save("a", sampleRAM(8))
    let dump = try shell.run(
      "SELECT hexdump(CAST('vmckpt' AS BLOB) || zeroblob(0) || x'', 0x1000);\n"
        + "SELECT hexdump(x'41' || x'', '0xfffffffffffffff0');\n"
        + "SELECT hexdump(zeroblob(64)), hexdump('');"
    )
    #expect(
      dump == """
        0000000000001000  76 6d 63 6b 70 74                                 |vmckpt|
        fffffffffffffff0  41                                                |A|
        0000000000000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        0000000000000030  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................||
        """
    )
    let others = try shell.run(
      """
      SELECT pfn(0x4fff), pfn('0xffffffffffffffff'), gpa(4), gpa('0x8000000000000');
      SELECT page_sha256('abc');
      SELECT msr_overlay(0x40000001, 0x4003), coalesce(msr_overlay(1, 1), 'none');
      """
    )
    #expect(
      others == """
        4|4503599627370495|16384|-9223372036854775808
        ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
        {"kind":"hypercall","enabled":true,"pfn":4,"gpa":"0x4000","msr_bits":"0x2","locked":true}|none
        """
    )
    #expect(try shell.failure("SELECT gpa(1 << 52);").contains("52 bits"))
    #expect(try shell.failure("SELECT pfn('4 GiB');").contains("must be an integer"))
  }

  @Test func framesAreDecodedAndDamagedOnesRefused() throws {
    try bench.save("a", sampleRAM(64))
    let wrong = try shell.run(
      """
      SELECT count(*) > 0,
             sum(page_sha256(substr(chunk_pages(encoding, data), 1, 4096))
                 <> lower(hex(substr(digests, 1, 32))))
        FROM chunk JOIN chunk_data ON chunk_id = id WHERE encoding = 'lz4';
      """
    )
    #expect(wrong == "1|0")
    let frame = "(SELECT data FROM chunk_data JOIN chunk ON id = chunk_id WHERE encoding = 'lz4')"
    for damaged in [
      "substr(\(frame), 1, 1000)", "\(frame) || x'00'", "x''", "zeroblob(100)", "'text'",
    ] {
      #expect(
        try shell.failure("SELECT lz4_frame_decode(CAST(\(damaged) AS BLOB));")
          .contains("frame is damaged"),
        "\(damaged)"
      )
    }
  }

  /// What it would tell of a newer version's chunks might be wrong.
  @Test func aStoreOfANewerFormatIsNotRead() throws {
    try bench.save("a", sampleRAM(4))
    try bench.sql.run("PRAGMA user_version = 2")
    let message = try shell.failure("SELECT hex(page_data('a', 0));")
    #expect(
      message.contains("has format version 2, and this extension knows up to 1"),
      "\(message)"
    )
  }

  /// Every reader must know of pages whose bytes are stored in another order.
  @Test(arguments: ["default", "high"])
  func shuffledPagesAreReadInEveryOrder(compression: String) throws {
    var generator = TestGenerator(seed: 12)
    let pages = (0..<64).map { index in
      index % 5 == 4 ? generator.compressiblePage() : generator.pointerPage()
    }
    let ram = pages.flatMap { $0 }
    try bench.save("a", ram, "--compression", compression)
    let order = (0..<64).shuffled(using: &generator)
    let sql = order.map { "SELECT hex(page_data('a', \($0)));" }.joined(separator: "\n")
    #expect(try shell.run(sql) == order.map { hexText(pages[$0]) }.joined(separator: "\n"))
    #expect(try shell.run("SELECT hex(ram_read('a', 100, 200000));") == hexText(ram[100..<200100]))
    #expect(
      try shell.run(
        "SELECT hex(chunk_pages(encoding, data)) FROM chunk JOIN chunk_data ON chunk_id = id ORDER BY id;"
      ).split(separator: "\n").joined().count == ram.count * 2
    )
    let needle = pages[33][1000..<1016]
    let found = try shell.run("SELECT gpa FROM ram_search('a', x'\(hexText(needle))');")
    #expect(found.split(separator: "\n").contains("\(33 * 4096 + 1000)"), "\(found)")
  }

  @Test func chunkPagesRefusesWhatIsNoChunk() throws {
    var generator = TestGenerator(seed: 13)
    try bench.save("a", (0..<16).flatMap { _ in generator.pointerPage() })
    let data = "(SELECT data FROM chunk_data)"
    let cases = [
      ("'raw', zeroblob(4095)", "not a chunk"), ("'raw', zeroblob(17 * 4096)", "not a chunk"),
      ("'raw', x''", "not a chunk"), ("'zstd', zeroblob(4096)", "must be 'lz4' or 'raw'"),
      ("'lz4', substr(\(data), 1, length(\(data)) - 1)", "frame is damaged"),
      ("'lz4', CAST(\(data) || substr(\(data), -14) AS BLOB)", "mark of shuffled pages is damaged"),
      ("'lz4', CAST(\(data) || x'502a4d1800000000' AS BLOB)", "frame is damaged"),
      ("'lz4', zeroblob(4096)", "frame is damaged"),
    ]
    for (arguments, message) in cases {
      let failure = try shell.failure("SELECT chunk_pages(\(arguments));")
      #expect(failure.contains(message), "\(arguments): \(failure)")
    }
    #expect(try shell.run("SELECT chunk_pages('lz4', NULL) IS NULL;") == "1")
    // The mark is a skippable frame, which the tools of LZ4 pass over as well.
    #expect(try shell.run("SELECT length(lz4_frame_decode(\(data)));") == "65536")
  }

  @Test func damagedPagesAreErrorsAndNotData() throws {
    try bench.save("a", (0..<16).flatMap { _ in [UInt8](repeating: 7, count: 4096) })
    for damage in [
      "UPDATE chunk SET digests = randomblob(32)",
      "UPDATE chunk_data SET data = zeroblob(length(data))",
      "UPDATE chunk_data SET data = x'00'",
      "UPDATE ram_extent SET first_slot = 3",
      "DELETE FROM chunk_data",
      "PRAGMA foreign_keys = OFF; DELETE FROM chunk",
    ] {
      try bench.sql.run(damage)
      #expect(try shell.failure("SELECT page_data('a', 3);").contains("vmckpt verify"), "\(damage)")
    }
  }

  @Test func readsWhileTheStoreIsWritten() throws {
    let ram = sampleRAM(64)
    try bench.save("a", ram)
    let source = try bench.write("b.ram", sampleRAM(4096, seed: 9))
    let save = try bench.tool.start(["save", source, "--name", "b"])
    for _ in 0..<10 {
      #expect(try shell.run("SELECT hex(ram_read('a', 0, 4096 * 64));") == hexText(ram))
    }
    #expect(try save.wait().succeeded)
    #expect(try shell.run("SELECT length(ram_read('latest', 0, 4096 * 4096));") == "16777216")
  }
}
