import Testing
import VMCheckpointTestSupport

/// A kdump that is damaged or hostile is refused in one line that says what and where, and leaves no store behind.
@Suite struct KdumpDamageTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var message: String
    var make: @Sendable () -> [UInt8]
    /// Whether the damage shows when RAM is read, after the store was made.
    var isLate = false

    init(_ name: String, _ message: String, _ make: @escaping @Sendable () -> [UInt8]) {
      testDescription = name
      self.message = message
      self.make = make
    }

    static func changed(
      _ name: String,
      _ message: String,
      isLate: Bool = false,
      _ change: @escaping @Sendable (inout KdumpBuilder) -> Void
    ) -> Case {
      var result = Case(name, message) {
        var dump = sample
        change(&dump)
        return dump.bytes
      }
      result.isLate = isLate
      return result
    }

    static func cut(_ name: String, _ message: String, at byteCount: Int) -> Case {
      Case(name, "is cut short \(message); \(again)") { Array(sample.bytes[..<byteCount]) }
    }

    /// A page whose data is not what its descriptor says.
    static func page(_ name: String, _ method: String, _ flags: UInt32, _ data: [UInt8]) -> Case {
      .changed(
        name,
        "is damaged: the \(method) data of the page at GPA 0x5000 cannot be decompressed to 4096 bytes",
        isLate: true
      ) { $0.pages[5] = .init(data, flags: flags) }
    }

    static func flattened(
      _ name: String,
      _ message: String,
      _ make: @escaping @Sendable () -> [UInt8]
    ) -> Case {
      Case(name, message) { KdumpBuilder.flattenedHead() + make() }
    }
  }

  private static let again = "wait until it is written, or copy it again"

  static var sample: KdumpBuilder {
    var dump = KdumpBuilder()
    dump.notes = ELFBuilder.note("CORE", 1, [UInt8](repeating: 3, count: 336))
    let ram = sampleRAM(8)
    for pfn in 0..<8 { dump.page(UInt64(pfn), Array(ram[(pfn * 4096)...].prefix(4096))) }
    return dump
  }

  private static let dumpAgain = "copy it again, or dump again"

  /// The sample in two flattened pieces, with a gap between them.
  private static func pieces(without offset: Int, byteCount: Int) -> [UInt8] {
    let bytes = sample.bytes
    let end = offset + byteCount
    return KdumpBuilder.piece(Int64(end), Int64(bytes.count - end), Array(bytes[end...]))
      + KdumpBuilder.piece(0, Int64(offset), Array(bytes[..<offset]))
      + KdumpBuilder.piece(-1, -1, [])
  }

  private static let empty = [UInt8](repeating: 0, count: 4096)

  static let files: [Case] = [
    .cut("cut in the header", "in its header", at: 4095),
    .cut("cut in the sub header", "in its sub header", at: 8191),
    .cut("cut in the notes", "in its bitmaps", at: 8300),
    .cut("cut in the first bitmap", "in its bitmaps", at: sample.bitmapOffset + 1),
    .cut("cut in the second bitmap", "in its bitmaps", at: sample.descriptorOffset - 1),
    .cut("cut in the descriptors", "in its page descriptors", at: sample.dataOffset - 1),
    .cut(
      "cut in the last page",
      "in the data of page descriptor 7",
      at: sample.bytes.count - 1
    ),
    .changed("the old diskdump", "is of the old diskdump, and not a kdump") {
      $0.signature = "DISKDUMP"
    },
    .changed("version 0", "has the unknown version 0") { $0.version = 0 },
    .changed("version 7", "has the unknown version 7") { $0.version = 7 },
    .changed("big-endian", "is of a big-endian machine") { $0.version = 0x0600_0000 },
    .changed("other pages", "has pages of 65536 bytes, and only such of 4096 are read") {
      $0.blockByteCount = 65536
    },
    .changed(
      "incomplete",
      "is incomplete: makedumpfile could not write it to its end; dump again where there is more room"
    ) { $0.status = 9 },
    .changed(
      "a part of a split dump",
      "is one part of a split dump; "
        + "join the parts first, as by: makedumpfile --reassemble PART... WHOLE"
    ) { $0.split = 1 },
    .changed(
      "no sub header",
      "is damaged: it has 0 blocks of a sub header and 2 of bitmaps"
    ) { $0.subHeaderBlocksField = 0 },
    .changed("a sub header of 8 TiB", "is cut short in its bitmaps; \(again)") {
      $0.subHeaderBlocksField = 0x7fff_ffff
    },
    .changed(
      "a negative sub header",
      "is damaged: it has 4294967295 blocks of a sub header and 2 of bitmaps"
    ) { $0.subHeaderBlocksField = .max },
    .changed("one bitmap", "is damaged: it has 2 blocks of a sub header and 1 of bitmaps") {
      $0.bitmapBlocksField = 1
    },
    .changed("bitmaps of 4 TiB each", "is cut short in its bitmaps; \(again)") {
      $0.bitmapBlocksField = 0x7fff_fffe
    },
    .changed(
      "more pages than bits",
      "is damaged: it has 32769 page frames, and bitmaps of 4096 bytes"
    ) { $0.wideCountField = 32769 },
    .changed(
      "pages of 64 bits",
      "is damaged: it has 18446744073709551615 page frames, and bitmaps of 4096 bytes"
    ) { $0.wideCountField = .max },
    .changed(
      "pages behind its count",
      "is damaged: it has 7 page frames, and page frame 7 in its bitmaps"
    ) { $0.wideCountField = 7 },
    .changed(
      "pages behind the count of version 5",
      "is damaged: it has 5 page frames, and page frame 7 in its bitmaps"
    ) {
      $0.version = 5
      $0.countField = 5
    },
    .changed(
      "a page in a block of the bitmaps that its count does not need",
      "is damaged: it has 64 page frames, and page frame 32800 in its bitmaps"
    ) {
      $0.pfnCount = 40000
      $0.countField = 64
      $0.wideCountField = 64
      $0.excluded = [32800]
    },
    .changed("no pages", "holds no RAM: no page exists in its bitmaps") { $0.pages = [:] },
    .changed("notes of 64 bits", "is damaged: it has 18446744073709551615 bytes of notes") {
      $0.notesByteCountField = .max
    },
    .changed("notes behind the end", "is cut short in its notes; \(again)") {
      $0.notesByteCountField = 60 << 20
    },
    .changed(
      "a note of 32 bits",
      "has damaged notes: note 0 has 4294967295 bytes, which end behind them"
    ) { $0.notes.replaceSubrange(4..<8, with: [0xff, 0xff, 0xff, 0xff]) },
    .changed(
      "RAM in too many places",
      "has RAM in more than 1024 places, and no more can be stored"
    ) {
      $0.pfnCount = 3000
      for pfn in 0..<1025 { $0.excluded.insert(100 + UInt64(pfn) * 2) }
    },
    .changed(
      "unknown flags",
      "is damaged: page descriptor 5 has the unknown flags 0x8"
    ) { $0.pages[5]!.flags = 8 },
    .changed(
      "two methods at once",
      "is damaged: page descriptor 5 has the unknown flags 0x3"
    ) { $0.pages[5]!.flags = 3 },
    .changed(
      "a page larger than a page",
      "is damaged: page descriptor 5 has 4097 bytes of Snappy data for a page"
    ) { $0.pages[5] = .init([UInt8](repeating: 1, count: 4097), flags: 4) },
    .changed(
      "a page of 32 bits",
      "is damaged: page descriptor 5 has 4294967295 bytes of zlib data for a page"
    ) {
      $0.pages[5] = .init([1, 2, 3], flags: 1)
      $0.pages[5]!.byteCount = .max
    },
    .changed(
      "a page of no bytes",
      "is damaged: page descriptor 5 has 0 bytes of LZO data for a page"
    ) { $0.pages[5] = .init([], flags: 2) },
    .changed(
      "a plain page of half a page",
      "is damaged: page descriptor 5 has 2048 bytes of plain data for a page"
    ) { $0.pages[5] = .init([UInt8](repeating: 1, count: 2048)) },
    .changed(
      "a page at the end of 64 bits",
      "is cut short in the data of page descriptor 5; \(again)"
    ) { $0.pages[5]!.offset = .max - 4095 },
    .changed("a page behind the end", "is cut short in the data of page descriptor 5; \(again)") {
      $0.pages[5]!.offset = 1 << 40
    },
    .page("zlib that is none", "zlib", 1, [1, 2, 3, 4]),
    .page("LZO that is none", "LZO", 2, [0xff, 2, 3, 4]),
    .page("zstd that is none", "zstd", 0x20, [1, 2, 3, 4]),
    .page("Snappy that is none", "Snappy", 4, [0xff, 0xff, 0xff]),
    .page("Snappy of 4 GiB", "Snappy", 4, [0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
    .page("Snappy of half a page", "Snappy", 4, SnappyModel.compress(Array(empty[..<2048]))),
    .page("Snappy of two pages", "Snappy", 4, SnappyModel.compress(empty + empty)),
    // The header of a frame with 4 GiB of zeros, whose first block is a run.
    .page(
      "zstd of 4 GiB",
      "zstd",
      0x20,
      [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0]
    ),
    Case("flattened in another type", "is flattened in type 2, version 1, and only 1 and 1 is read")
    {
      KdumpBuilder.flattenedHead(type: 2)
    },
    Case("cut in the flattened header", "is cut short in its flattened header; \(again)") {
      Array(KdumpBuilder.flattenedHead().prefix(4000))
    },
    .flattened("no pieces", "is cut short in flattened piece 1; \(again)") { [] },
    .flattened("cut in a piece", "is cut short in flattened piece 1; \(again)") {
      KdumpBuilder.piece(0, 4096, [1, 2, 3])
    },
    .flattened("no end", "is cut short in flattened piece 2; \(again)") {
      KdumpBuilder.piece(0, 4, [1, 2, 3, 4])
    },
    .flattened(
      "a piece of 63 bits",
      "is damaged: flattened piece 1 has 9223372036854775807 bytes at offset 0"
    ) { KdumpBuilder.piece(0, .max, []) },
    .flattened(
      "a piece at 63 bits",
      "is damaged: flattened piece 1 has 4 bytes at offset 9223372036854775807"
    ) { KdumpBuilder.piece(.max, 4, [1, 2, 3, 4]) },
    .flattened("a negative offset", "is damaged: flattened piece 1 has 4 bytes at offset -2") {
      KdumpBuilder.piece(-2, 4, [1, 2, 3, 4])
    },
    .flattened("half an end", "is damaged: flattened piece 1 has 4 bytes at offset -1") {
      KdumpBuilder.piece(-1, 4, [1, 2, 3, 4])
    },
    .flattened("an empty piece", "is damaged: flattened piece 1 has 0 bytes at offset 0") {
      KdumpBuilder.piece(0, 0, [])
    },
    .flattened("nothing put together", "is cut short in its header; \(again)") {
      KdumpBuilder.piece(-1, -1, [])
    },
    .flattened(
      "a gap in a page's data",
      "lacks the flattened pieces in the data of page descriptor 5; \(dumpAgain)"
    ) { pieces(without: sample.pageOffset(5) + 3, byteCount: 8) },
    .flattened(
      "a gap in the descriptors",
      "lacks the flattened pieces in its page descriptors; \(dumpAgain)"
    ) { pieces(without: sample.descriptorOffset + 24, byteCount: 24) },
    .flattened("a gap in a bitmap", "lacks the flattened pieces in its bitmaps; \(dumpAgain)") {
      pieces(without: sample.bitmapOffset, byteCount: 1)
    },
    .flattened("a gap in the notes", "lacks the flattened pieces in its notes; \(dumpAgain)") {
      pieces(without: 8192 + 20, byteCount: 1)
    },
    .flattened("something else put together", "does not begin like a kdump") {
      KdumpBuilder.piece(0, 8192, [UInt8](repeating: 1, count: 8192))
        + KdumpBuilder.piece(-1, -1, [])
    },
  ]

  private let bench: Workbench

  init() throws { bench = try Workbench() }

  @Test(arguments: files)
  func aDamagedDumpIsRefusedAndNothingIsStored(damage: Case) throws {
    let path = try bench.write("x.kdump", damage.make())
    let before = bench.directory.entries
    expectFailure(
      try bench.tool.run("save", path, "--name", "x"),
      65,
      "kdump \"\(path)\" \(damage.message)"
    )
    if damage.isLate {
      #expect(try !bench.tool.run("show", "x").succeeded)
      #expect(bench.leftovers.isEmpty)
    } else {
      #expect(bench.directory.entries == before)
    }
  }

  @Test(arguments: files)
  func aDamagedDumpFromAPipeIsRefused(damage: Case) throws {
    let path = try bench.write("x.kdump", damage.make())
    let outcome = try bench.tool.run("save", "kdump:-", "--name", "x", input: .file(path))
    expectFailure(outcome, 65, "kdump \"stdin\" \(damage.message)")
    #expect(try !bench.tool.run("show", "x").succeeded)
    #expect(bench.leftovers.isEmpty)
  }

  /// Whatever a byte of the headers becomes, the command ends in order.
  @Test func anyByteOfTheHeadersMayBeWrong() throws {
    let bytes = Self.sample.bytes
    let offsets =
      Array(stride(from: 8, to: 12, by: 1)) + Array(424..<444)
      + Array(stride(from: 4096, to: 4096 + 104, by: 3))
      + Array(stride(from: Self.sample.descriptorOffset, to: Self.sample.dataOffset, by: 5))
    for offset in offsets {
      var damaged = bytes
      damaged[offset] ^= 0xff
      let path = try bench.write("x.kdump", damaged)
      let outcome = try bench.tool.run("save", path)
      #expect(outcome.endedOrderly, "byte \(offset): \(outcome)")
    }
  }
}
