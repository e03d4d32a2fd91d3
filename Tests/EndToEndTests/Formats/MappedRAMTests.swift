import Foundation
import Testing
import VMCheckpointTestSupport

/// Files of QEMU's capability `mapped-ram`, built from their documented layout.
@Suite struct MappedRAMTests {
  private let bench: Workbench
  private static let ram = sampleRAM(130, seed: 3)

  init() throws { bench = try Workbench() }

  private static func page(_ index: Int) -> [UInt8] { Array(ram[(index * 4096)...].prefix(4096)) }

  /// Pages that are zero have no bit, as QEMU leaves them.
  private static func stream(
    capabilities: [String] = ["mapped-ram"],
    fileOffset: Int = 0,
    change: (Int, inout [UInt64]) -> Void = { _, _ in }
  ) -> [UInt8] {
    var stream = QEMUStreamBuilder()
    stream.header(capabilities: capabilities)
    let pages = (0..<130).map { ($0, page($0)) }.filter { $0.1.contains { $0 != 0 } }
    stream.mappedRAM(
      [
        ("vga.vram", 3, [1: [UInt8](repeating: 0x11, count: 4096)]),
        ("pc.ram", 130, Dictionary(uniqueKeysWithValues: pages)),
        ("pc.rom", 1, [:]),
      ],
      fileOffset: fileOffset,
      change: change
    )
    stream.ramPart(3)
    stream.ramEnd()
    stream.devices()
    return stream.bytes
  }

  @Test(arguments: [["mapped-ram"], ["mapped-ram", "multifd"]])
  func everyPageIsWhereItsBlockHasIt(capabilities: [String]) throws {
    let path = try bench.write("mapped", Self.stream(capabilities: capabilities))
    try bench.tool.succeed("save", path, "--name", "file")
    try bench.tool.succeed("save", "qemu-stream:-", "--name", "pipe", input: .file(path))
    #expect(try bench.restore("file") == Self.ram)
    #expect(try bench.restore("pipe") == Self.ram)
    let pipe = try ChildPipe()
    let child = try bench.tool.start(
      ["save", "qemu-stream:-", "--name", "put-down"],
      input: .descriptor(pipe.reader)
    )
    try pipe.write(Self.stream(capabilities: capabilities))
    pipe.closeWriter()
    expectSuccess(try child.wait())
    #expect(try bench.restore("put-down") == Self.ram)
    // What is kept is an ordinary stream, the same as of the same guest without mapped-ram.
    let digests = try ["file", "pipe"].map { name in
      try bench.sql.run(
        """
        SELECT hex(sha256) FROM device_state WHERE name = 'qemu-stream' AND snapshot_id =
               (SELECT id FROM snapshot WHERE name = '\(name)')
        """
      )
    }
    #expect(digests[0] == digests[1] && digests[0].count == 64)
    let restored = bench.directory.file("stream")
    try bench.tool.succeed("restore", "file", "--format", "qemu-stream", "-o", restored)
    try bench.tool.succeed("save", restored, "--name", "again")
    #expect(try bench.restore("again") == Self.ram)
  }

  /// The file keeps a page's bytes that became zero later: the bitmap alone says so.
  @Test func bytesOfAPageWithoutItsBitAreNotRAM() throws {
    var bytes = Self.stream()
    let name = try #require(bytes.firstRange(of: [6] + Array("pc.ram".utf8)))
    // Its size, and the block's header.
    let bitmap = name.upperBound + 8 + 28
    let index = try #require((0..<8).first { bytes[bitmap] >> UInt8($0) & 1 != 0 })
    bytes[bitmap] ^= 1 << UInt8(index)
    try bench.tool.succeed("save", bench.write("mapped", bytes), "--name", "a")
    var expected = Self.ram
    let zeros = [UInt8](repeating: 0, count: 4096)
    expected.replaceSubrange((index * 4096)..<((index + 1) * 4096), with: zeros)
    #expect(try bench.restore("a") == expected)
  }

  @Test func aStreamInTheMiddleOfAFileIsRead() throws {
    let bytes = Self.stream(fileOffset: 0x10830)
    let path = try bench.write("mapped", bytes)
    try bench.tool.succeed("save", "qemu-stream:-", "--name", "a", input: .file(path))
    #expect(try bench.restore("a") == Self.ram)
    // The whole file, which begins with a hole. With a scheme, and without one.
    let whole = try bench.write("whole", [UInt8](repeating: 0, count: 0x10830) + bytes)
    for source in [whole, "qemu-stream:\(whole)"] {
      try bench.tool.succeed("save", source, "--name", "b")
      #expect(try bench.restore("b") == Self.ram)
      try bench.tool.succeed("delete", "b")
    }
    let zeros = try bench.write("zeros", [UInt8](repeating: 0, count: 8192))
    let outcome = try bench.tool.run("save", "qemu-stream:\(zeros)")
    #expect(outcome.ending == .exit(65), "\(outcome)")
  }

  @Test(arguments: [
    (0, 0, UInt64(2), "version 2 of mapped-ram is unknown"),
    (0, 1, 65536, "mapped-ram has pages of 65536 bytes"),
    (0, 2, 5, "the bitmap of RAM block \"vga.vram\" is before its header"),
    (1, 2, 0, "mapped-ram goes on at offset 0"),
    (1, 2, .max, "mapped-ram goes on at offset 18446744073709551615"),
    (0, 3, 16, "mapped-ram goes on at offset 16"),
    (2, 3, 1 << 63, "mapped-ram goes on at offset 9223372036854775808"),
  ])
  func impossibleNumbersAreRefused(
    block: Int,
    field: Int,
    value: UInt64,
    message: String
  ) throws {
    let path = try bench.write(
      "mapped",
      Self.stream { index, numbers in if index == block { numbers[field] = value } }
    )
    let outcome = try bench.tool.run("save", path)
    #expect(outcome.ending == .exit(65))
    #expect(outcome.standardError.contains(message), "\(outcome)")
    #expect(!exists(bench.storePath))
  }

  @Test func aFileThatWasCutAnywhereIsRefused() throws {
    let bytes = Self.stream()
    for count in [60, 90, 100, 0x100000, 0x100000 + 5000, bytes.count - 200, bytes.count - 1] {
      let path = try bench.write("cut-\(count)", Array(bytes.prefix(count)))
      let outcome = try bench.tool.run("save", path)
      #expect(outcome.ending == .exit(65), "\(count): \(outcome)")
      #expect(!exists(bench.storePath))
    }
  }
}
