import Glibc
import Testing
import VMCheckpointTestSupport

/// Tables over a guest's memory tell what slow references tell of the RAM that was saved.
@Suite struct TableFunctionTests {
  private let bench: Workbench
  private let shell: ExtensionShell

  init() throws {
    bench = try Workbench()
    shell = ExtensionShell(bench.storePath)
  }

  private static let zeroPage = [UInt8](repeating: 0, count: 4096)

  @Test func pagesAreThoseOfTheRAMAndTheirSharingIsCounted() throws {
    let a = sampleRAM(64, seed: 1)
    var b = a
    b.replaceSubrange((10 * 4096)..<(30 * 4096), with: sampleRAM(20, seed: 2))
    try bench.save("a", a)
    try bench.save("b", b)
    let rows = try shell.run(
      "SELECT pfn, gpa, state, coalesce(page_sha256(page_data('b', pfn)) = digest, 'none') FROM ram_page('b');"
    ).split(separator: "\n").map(String.init)
    let pagesOfA = Set((0..<64).map { a.page($0) })
    #expect(
      rows
        == (0..<64).map { pfn in
          let page = b.page(pfn)
          if page == Self.zeroPage { return "\(pfn)|\(pfn * 4096)|zero|none" }
          return "\(pfn)|\(pfn * 4096)|\(pagesOfA.contains(page) ? "shared" : "stored")|1"
        }
    )
    #expect(rows.contains { $0.contains("shared") } && rows.contains { $0.contains("stored") })
    let counted = try shell.run(
      """
      SELECT count(*), coalesce(sum(p.snapshots <>
               (SELECT count(DISTINCT o.snapshot) FROM stored_page o WHERE o.digest = p.digest)), 0)
        FROM ram_page('b') p WHERE p.state <> 'zero';
      """
    )
    let stored = (0..<64).filter { b.page($0) != Self.zeroPage }.count
    #expect(counted == "\(stored)|0")
  }

  /// As during every save, and after one that was killed.
  @Test func aQuestionAboutAllSnapshotsIsAnsweredWhileOneIsBeingSaved() throws {
    try bench.save("a", sampleRAM(64, seed: 1))
    try bench.save("b", sampleRAM(64, seed: 2))
    try bench.sql.run("UPDATE snapshot SET state = 'writing' WHERE name = 'b'")
    #expect(
      try shell.run(
        "SELECT s.name, count(p.pfn) FROM snapshot s LEFT JOIN ram_page(s.id) p GROUP BY s.id;"
      ) == "a|64\nb|0"
    )
    #expect(try shell.run("SELECT count(*) FROM guest_process(2);") == "0")
    #expect(
      try shell.failure("SELECT page_data(2, 0);").contains("is being saved or deleted")
    )
    #expect(
      try shell.failure("SELECT count(*) FROM ram_page(3);").contains("no snapshot with the id 3")
    )
  }

  @Test func aPointQueryReadsNothingElse() throws {
    try bench.save("a", sampleRAM(200))
    // Whoever reads the last extent fails.
    try bench.sql.run(
      """
      PRAGMA ignore_check_constraints = ON;
      UPDATE ram_extent SET page_count = 17
       WHERE first_pfn = (SELECT max(first_pfn) FROM ram_extent)
      """
    )
    #expect(try shell.failure("SELECT count(*) FROM ram_page('a');").contains("is damaged"))
    #expect(try shell.run("SELECT pfn FROM ram_page('a') WHERE pfn = 5;") == "5")
    #expect(
      try shell.run("SELECT count(*) FROM ram_page('a') WHERE pfn BETWEEN 10 AND '19';") == "10"
    )
    #expect(try shell.run("SELECT count(*) FROM ram_page('a') WHERE pfn < 9.5 AND pfn > 2;") == "7")
    let plan = try shell.run(
      "EXPLAIN QUERY PLAN SELECT * FROM ram_page('a') WHERE pfn >= 3 AND pfn < 9 ORDER BY pfn;"
    )
    #expect(plan.contains("pfn<? and pfn>=?") && !plan.contains("TEMP B-TREE"))
  }

  @Test func differencesAreThoseOfTheBytes() throws {
    let a = sampleRAM(96, seed: 1)
    var b = a
    b.replaceSubrange((10 * 4096)..<(30 * 4096), with: sampleRAM(20, seed: 2))
    b[50 * 4096 + 7] ^= 1
    try bench.save("a", a)
    try bench.save("b", b)
    let expected = (0..<96).compactMap { pfn -> String? in
      let (old, new) = (a.page(pfn), b.page(pfn))
      let bytes = zip(old, new).filter { $0 != $1 }.count
      guard bytes > 0 else { return nil }
      let change =
        old == Self.zeroPage ? "added" : new == Self.zeroPage ? "zeroed" : "changed"
      return "\(pfn)|\(change)|\(bytes)"
    }
    let rows = try shell.run("SELECT pfn, change, different_bytes FROM ram_diff('a', 'b');")
    #expect(rows == expected.joined(separator: "\n"))
    let range = try shell.run(
      "SELECT pfn, change, different_bytes FROM ram_diff('a', 'b') WHERE pfn BETWEEN 12 AND 50;"
    )
    #expect(
      range.split(separator: "\n").map(String.init)
        == expected.filter { (12...50).contains(Int($0.prefix { $0 != "|" })!) }
    )
    #expect(try shell.run("SELECT count(*) FROM ram_diff('a', 'a');") == "0")
  }

  /// RAM of few different bytes, so that patterns stand across all sorts of borders, and zero pages.
  private func sparseText(_ generator: inout TestGenerator, pageCount: Int) -> [UInt8] {
    let bytes = [UInt8(0), 0x61, 0x62, 0x63, 0xff]
    return (0..<pageCount).flatMap { _ -> [UInt8] in
      if generator.oneIn(3) { return Self.zeroPage }
      let isText = generator.oneIn(2)
      return (0..<4096).map { _ in
        isText
          ? (generator.oneIn(200) ? 0 : 0x61 + UInt8(generator.int(0...2)))
          : bytes[generator.int(0...4)]
      }
    }
  }

  /// Every place, byte by byte.
  private func places(of pattern: [UInt8], in bytes: [UInt8]) -> [Int] {
    bytes.withUnsafeBytes { bytes in
      pattern.withUnsafeBytes { pattern in
        (0...(bytes.count - pattern.count)).filter { offset in
          bytes[offset] == pattern[0]
            && memcmp(bytes.baseAddress! + offset, pattern.baseAddress!, pattern.count) == 0
        }
      }
    }
  }

  @Test(.slow, arguments: [UInt64(1), 2, 3, 4])
  func patternsAreFoundWhereverTheyStand(seed: UInt64) throws {
    var generator = TestGenerator(seed: seed)
    // Two regions that touch, and one apart.
    let ram = sparseText(&generator, pageCount: 80)
    try bench.save(
      "a",
      ram,
      "--region",
      "gpa=0,size=128K",
      "--region",
      "gpa=128K,size=64K",
      "--region",
      "gpa=1M,size=128K"
    )
    let blocks = [
      (gpa: 0, bytes: Array(ram[..<(48 * 4096)])),
      (gpa: 1 << 20, bytes: Array(ram[(48 * 4096)...])),
    ]
    for length in [1, 2, 3, 9, 40, 4096, 9000] {
      let start = generator.int(0...(ram.count - length))
      var pattern = Array(ram[start..<(start + length)])
      if length < 10 || !pattern.contains(where: { $0 != 0 }) { pattern[length - 1] = 0x62 }
      let alignment = generator.oneIn(2) ? 1 : 8
      let expected = blocks.flatMap { block in
        places(of: pattern, in: block.bytes).map { $0 + block.gpa }.filter { $0 % alignment == 0 }
      }
      let text = try shell.run(
        "SELECT group_concat(gpa) FROM ram_search('a', x'\(hexText(pattern))', \(alignment));"
      )
      #expect(
        text.split(separator: ",").compactMap { Int($0) } == expected,
        "\(length) bytes, alignment \(alignment)"
      )
      guard let middle = expected.dropFirst(expected.count / 2).first else { continue }
      let after = try shell.run(
        """
        SELECT gpa, context FROM ram_search('a', x'\(hexText(pattern))', \(alignment))
         WHERE gpa >= \(middle) LIMIT 1;
        """
      )
      let whole = try shell.run(
        """
        SELECT gpa, context FROM ram_search('a', x'\(hexText(pattern))', \(alignment))
         WHERE +gpa = \(middle);
        """
      )
      #expect(after == whole && after.hasPrefix("\(middle)|"))
    }
  }

  @Test(arguments: ["ascii", "utf-16le"])
  func textsAreFoundWhereverTheyStand(encoding: String) throws {
    var generator = TestGenerator(seed: 11)
    var ram = sparseText(&generator, pageCount: 64)
    let width = encoding == "ascii" ? 1 : 2
    if width == 2 {
      // Every second byte zero, as far as there are texts.
      for index in stride(from: 1, to: ram.count, by: 2) where ram[index] != 0xff { ram[index] = 0 }
    }
    // One that goes on for long, over 64 KiB borders.
    for index in stride(from: 8 * 4096 + 100, to: 52 * 4096, by: width) {
      ram[index] = 0x64
      if width == 2 { ram[index + 1] = 0 }
    }
    try bench.save("a", ram)
    let expected = texts(in: ram, width: width, minimumLength: 5)
    #expect(expected.contains { $0.text.count > 4096 } && expected.count > 20)
    let rows = try shell.run("SELECT gpa, length, text FROM ram_strings('a', 5, '\(encoding)');")
    #expect(
      rows == expected.map { "\($0.gpa)|\($0.text.count)|\($0.text)" }.joined(separator: "\n")
    )
    for lower in [0, 100_000, 150_001, 200_000] {
      let range = try shell.run(
        """
        SELECT gpa, length FROM ram_strings('a', 5, '\(encoding)')
         WHERE gpa BETWEEN \(lower) AND \(lower + 9000);
        """
      )
      #expect(
        range
          == expected.filter { (lower...(lower + 9000)).contains($0.gpa) }
          .map { "\($0.gpa)|\($0.text.count)" }.joined(separator: "\n")
      )
    }
  }

  /// Runs of every length around those of the words in which texts are searched, at every offset.
  @Test func textsOfEveryLengthAreFound() throws {
    var generator = TestGenerator(seed: 12)
    var ram: [UInt8] = []
    while ram.count < 40 * 4096 {
      let length = generator.oneIn(40) ? generator.int(100...300) : generator.int(0...70)
      ram += (0..<length).map { _ in 0x20 + UInt8(generator.int(0...94)) }
      ram += [[0, 0x1f, 0x7f, 0x80, 0xa0, 0xff][generator.int(0...5)]]
    }
    ram.removeLast(ram.count - 40 * 4096)
    // The same with zeros between.
    let wide = ram.prefix(20 * 4096).flatMap { [$0, UInt8(0)] }
    try bench.save("a", ram)
    try bench.save("b", wide, "--vm", "other")
    for length in [1, 2, 3, 4, 5, 7, 8, 31, 33, 63, 64, 65, 66, 127, 128, 129, 250] {
      for (name, bytes, encoding) in [("a", ram, "ascii"), ("b", wide, "utf-16le")] {
        let expected = texts(in: bytes, width: name == "a" ? 1 : 2, minimumLength: length)
        let rows = try shell.run(
          "SELECT gpa, text FROM ram_strings('\(name)', \(length), '\(encoding)');"
        )
        let isRight = rows == expected.map { "\($0.gpa)|\($0.text)" }.joined(separator: "\n")
        #expect(isRight && !expected.isEmpty, "\(encoding) of at least \(length)")
      }
    }
  }

  /// Character by character. A text of more than 4096 ends at a multiple of 64 KiB.
  private func texts(
    in ram: [UInt8],
    width: Int,
    minimumLength: Int
  ) -> [(gpa: Int, text: String)] {
    var found: [(gpa: Int, text: String)] = []
    var open: [UInt8] = []
    func close(at gpa: Int) {
      if open.count >= minimumLength {
        found.append((gpa - open.count * width, String(decoding: open, as: UTF8.self)))
      }
      open = []
    }
    for gpa in stride(from: 0, to: ram.count, by: width) {
      if gpa % 65536 == 0, open.count > 4096 { close(at: gpa) }
      let isPrintable = (0x20...0x7e).contains(ram[gpa]) || ram[gpa] == 9
      if isPrintable, width == 1 || ram[gpa + 1] == 0 {
        open.append(ram[gpa])
      } else {
        close(at: gpa)
      }
    }
    close(at: ram.count)
    return found
  }

  @Test func aPagesHistoryAndItsOwnersAreTold() throws {
    let a = sampleRAM(40, seed: 1)
    let pfn = (0..<40).first { a.page($0) != Self.zeroPage }!
    let b = a.replacingPage(pfn, with: Self.zeroPage)
    try bench.save("a", a, "--vm", "v")
    try bench.save("b", b, "--vm", "v")
    try bench.save("c", a + a.page(pfn), "--vm", "v")
    try bench.save("d", a.page(pfn), "--vm", "other")
    let history = try shell.run(
      "SELECT snapshot, state, changed, digest IS NULL FROM page_history('v', \(pfn));"
    )
    #expect(history == "a|stored|0|0\nb|zero|1|1\nc|stored|1|0")
    #expect(
      try shell.run("SELECT snapshot, state, changed FROM page_history('v', 40);")
        == "a|no-ram|0\nb|no-ram|0\nc|stored|1"
    )
    for digest in [
      "page_sha256(page_data('d', 0))",
      "(SELECT substr(c.digests, e.first_slot * 32 + 1, 32) FROM ram_extent e "
        + "JOIN chunk c ON c.id = e.chunk_id WHERE e.snapshot_id = 4)",
    ] {
      #expect(
        try shell.run("SELECT snapshot, vm, pfn FROM page_owners(\(digest));")
          == "a|v|\(pfn)\nc|v|\(pfn)\nc|v|40\nd|other|0"
      )
    }
    #expect(try shell.run("SELECT count(*) FROM page_owners(zeroblob(32));") == "0")
    #expect(try shell.failure("SELECT * FROM page_owners('abc');").contains("64 hexadecimal"))
  }

  @Test func anInterruptEndsALongScan() throws {
    var generator = TestGenerator(seed: 5)
    try bench.save("a", (0..<4096).flatMap { _ in generator.compressiblePage() })
    for scan in [
      "ram_search('a', 'not there at all')", "ram_strings('a', 4096)", "ram_diff('a', 'a')",
    ] {
      let message = try shell.failure(
        ".progress 100 --limit 3 --quiet\nSELECT count(*) FROM \(scan);"
      )
      #expect(message.contains("interrupted"), "\(scan)")
    }
  }

  @Test func wrongArgumentsAreErrorsAndNullGivesNoRows() throws {
    try bench.save("a", sampleRAM(8))
    for (call, message) in [
      ("ram_page", "too few arguments: ram_page(snapshot)"),
      ("ram_diff('a')", "too few arguments"),
      ("ram_page('b')", "no snapshot \"b\""),
      ("ram_search('a', '')", "1 to 65536 bytes"),
      ("ram_search('a', x'0000')", "zero pages"),
      ("ram_search('a', 'x', 3)", "power of two"),
      ("ram_search('a', 7)", "must be a BLOB or a text"),
      ("ram_strings('a', 0)", "out of range"),
      ("ram_strings('a', 4, 'latin1')", "encoding"),
    ] {
      #expect(try shell.failure("SELECT * FROM \(call);").contains(message), "\(call)")
    }
    for call in [
      "ram_page(NULL)", "ram_diff('a', NULL)", "ram_search('a', NULL)", "ram_strings('a', NULL)",
      "page_history(NULL, 1)", "page_owners(NULL)",
    ] {
      #expect(try shell.run("SELECT count(*) FROM \(call);") == "0", "\(call)")
    }
    // Arguments from another table of the join, in either order.
    #expect(
      try shell.run(
        "SELECT count(*) FROM ram_page(s.name) p, snapshot s WHERE p.pfn = 3;"
      ) == "1"
    )
  }
}
