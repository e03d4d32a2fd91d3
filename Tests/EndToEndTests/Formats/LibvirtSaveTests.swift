import Foundation
import Testing
import VMCheckpointTestSupport

/// Save images of libvirt, built from their documented layout; their streams are compressed by the programs
/// that libvirt uses.
@Suite struct LibvirtSaveTests {
  private let bench: Workbench
  private static let ram = sampleRAM(96, seed: 5)

  init() throws { bench = try Workbench() }

  private static func stream(isMapped: Bool = false, fileOffset: Int = 0) -> [UInt8] {
    var stream = QEMUStreamBuilder()
    stream.header(machine: "pc-i440fx-7.2", capabilities: isMapped ? ["mapped-ram"] : [])
    let pages = (0..<96).map { ($0, Array(ram[($0 * 4096)...].prefix(4096))) }
    if isMapped {
      let stored = pages.filter { $0.1.contains { $0 != 0 } }
      stream.mappedRAM(
        [("pc.ram", 96, Dictionary(uniqueKeysWithValues: stored))],
        fileOffset: fileOffset
      )
    } else {
      stream.ramStart([("pc.ram", 96)])
      stream.ramPart(2)
      for (index, page) in pages { stream.page("pc.ram", index, page) }
      stream.ramEnd()
    }
    stream.ramPart(3)
    stream.ramEnd()
    stream.devices()
    return stream.bytes
  }

  private static func image(_ builder: LibvirtImageBuilder = LibvirtImageBuilder()) throws
    -> [UInt8]
  {
    let start = builder.image(stream: []).count
    let stream = stream(isMapped: builder.format == 6, fileOffset: start)
    return builder.image(
      stream: try LibvirtImageBuilder.compress(stream, format: builder.format)
    )
  }

  @Test(arguments: UInt32(0)...6)
  func everyCompressionIsUndone(format: UInt32) throws {
    var builder = LibvirtImageBuilder()
    builder.format = format
    let path = try bench.write("guest.save", try Self.image(builder))
    try bench.tool.succeed("save", path, "--name", "file")
    try bench.tool.succeed("save", "libvirt-save:-", "--name", "pipe", input: .file(path))
    for name in ["file", "pipe"] { #expect(try bench.restore(name) == Self.ram) }

    // An image of the same domain, whose stream is not compressed.
    let restored = bench.directory.file("restored.save")
    try bench.tool.succeed("restore", "pipe", "--format", "libvirt-save", "-o", restored)
    let bytes = Array(try Data(contentsOf: URL(filePath: restored)))
    builder.format = 0
    let head = builder.image(stream: [])
    #expect(bytes.prefix(head.count) == head[...])
    #expect(bytes[head.count...].starts(with: Array("QEVM".utf8)))
    try bench.tool.succeed("save", restored, "--name", "again")
    #expect(try bench.restore("again") == Self.ram)
    #expect(
      try bench.sql.integer("SELECT count(DISTINCT sha256) FROM device_state WHERE name <> 'x'")
        == 3
    )
  }

  @Test func anImageOfAHostWithTheOtherByteOrderIsRead() throws {
    var builder = LibvirtImageBuilder()
    builder.isByteSwapped = true
    builder.cookie = nil
    let path = try bench.write("guest.save", try Self.image(builder))
    try bench.tool.succeed("save", path, "--name", "a")
    #expect(try bench.restore("a") == Self.ram)
  }

  struct Damage: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var message: String
    var change: @Sendable (inout LibvirtImageBuilder) -> Void
  }

  private static let damages = [
    Damage(testDescription: "unfinished", message: "is not complete") {
      $0.magic = "LibvirtQemudPart"
    },
    Damage(testDescription: "version 3", message: "version 3 of libvirt's") { $0.version = 3 },
    Damage(testDescription: "no description", message: "a description of 0 bytes") {
      $0.dataByteCount = 0
    },
    Damage(testDescription: "4 GiB of description", message: "a description of 4294967295 bytes") {
      $0.dataByteCount = .max
    },
    Damage(testDescription: "longer than the file", message: "ends too early") {
      $0.dataByteCount = 60 << 20
    },
    Damage(testDescription: "cookie outside", message: "its cookie is outside") {
      $0.cookieOffset = 1 << 20
    },
    Damage(testDescription: "cookie inside the XML", message: "its cookie begins inside its XML") {
      $0.cookieOffset = 8
    },
    Damage(
      testDescription: "cut in the description",
      message: "ends too early in its description, after"
    ) { $0.dataByteCount = 60 << 20 },
    Damage(testDescription: "compression 7", message: "compression 7 is unknown") { $0.format = 7 },
    Damage(testDescription: "shorter description", message: "is not a migration stream") {
      $0.dataByteCount = 20
      $0.cookie = nil
    },
  ]

  @Test(arguments: damages)
  func aDamagedHeaderIsRefusedAndNothingStored(damage: Damage) throws {
    var builder = LibvirtImageBuilder()
    damage.change(&builder)
    let path = try bench.write("guest.save", builder.image(stream: Self.stream()))
    let outcome = try bench.tool.run("save", path)
    #expect(outcome.ending == .exit(65))
    #expect(outcome.standardError.contains(damage.message), "\(outcome)")
    #expect(outcome.standardError.split(separator: "\n").count == 1)
    #expect(!exists(bench.storePath))
  }

  @Test(arguments: [UInt32(1), 2, 3, 4, 5])
  func damagedCompressedDataIsRefusedByItsName(format: UInt32) throws {
    var builder = LibvirtImageBuilder()
    builder.format = format
    let whole = try Self.image(builder)
    let start = builder.image(stream: []).count
    var flipped = whole
    flipped[start + (whole.count - start) / 2] ^= 0x55
    let cases = [
      "cut": Array(whole.dropLast((whole.count - start) / 3)),
      "without data": Array(whole.prefix(start)),
      "flipped": flipped,
      "other data": builder.image(stream: Self.stream()),
    ]
    for (name, bytes) in cases {
      let path = try bench.write("\(name).save", bytes)
      let outcome = try bench.tool.run("save", path)
      #expect(outcome.ending == .exit(65), "\(name): \(outcome)")
      #expect(outcome.standardError.split(separator: "\n").count == 1)
      if name == "flipped", format == 2 {
        // Another stream comes out of the block before its checksum is seen.
        #expect(outcome.standardError.contains("its bzip2 data is damaged"), "\(outcome)")
      }
      if name == "cut", format != 4 {
        #expect(outcome.standardError.contains("ends in the middle of its"), "\(outcome)")
      }
      #expect(!exists(bench.storePath))
    }
  }

  /// 512 MiB of zeros in some KiB: refused at its first bytes.
  @Test func aDecompressionBombIsRefusedAtOnce() throws {
    var builder = LibvirtImageBuilder()
    builder.format = 5
    let zeros = bench.directory.file("zeros")
    try writeFile(zeros, "")
    #expect(truncate(zeros, 512 << 20) == 0)
    let packed = try run(["/usr/bin/env", "zstd", "-1", "-c", zeros])
    let path = try bench.write("guest.save", builder.image(stream: packed.standardOutput))
    let outcome = try bench.tool.run("save", path)
    #expect(outcome.ending == .exit(65))
    #expect(outcome.standardError.contains("is not a migration stream"), "\(outcome)")
    #expect(outcome.maximumResidentByteCount < 200 << 20)
  }

  /// What follows a stream's end was kept up to the limit of device state.
  @Test(arguments: [UInt32(1), 5])
  func zerosBehindAStreamAreNotKept(format: UInt32) throws {
    var builder = LibvirtImageBuilder()
    builder.format = format
    let plain = bench.directory.file("plain")
    try writeFile(plain, Self.stream())
    #expect(truncate(plain, 300 << 20) == 0)
    let program = format == 1 ? "gzip" : "zstd"
    let packed = try run(["/usr/bin/env", program, "-1", "-c", plain])
    let path = try bench.write("guest.save", builder.image(stream: packed.standardOutput))
    let outcome = try bench.tool.run("save", path)
    #expect(outcome.ending == .exit(65))
    #expect(outcome.standardError.contains("it goes on after its end"), "\(outcome)")
    #expect(outcome.maximumResidentByteCount < 200 << 20)
  }

  /// The thread that decompresses has written all that came, and waits for input.
  @Test func anErrorDoesNotWaitForInputThatNeverComes() throws {
    var builder = LibvirtImageBuilder()
    builder.format = 1
    let packed = try LibvirtImageBuilder.compress(
      [UInt8](repeating: 7, count: 1000),
      format: 1
    )
    let pipe = try ChildPipe()
    let child = try bench.tool.start(["save", "libvirt-save:-"], input: .descriptor(pipe.reader))
    try pipe.write(builder.image(stream: packed))
    // The pipe stays open.
    let outcome = try child.wait()
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.contains("is not a migration stream"))
    pipe.closeWriter()
  }

  @Test func aMissingProgramIsNamedWithItsPackage() throws {
    var builder = LibvirtImageBuilder()
    builder.format = 4
    let path = try bench.write("guest.save", try Self.image(builder))
    let outcome = try run(
      bench.tool.commandLine(["save", path]),
      environment: ["PATH": "/nonexistent"]
    )
    #expect(outcome.ending == .exit(69))
    #expect(outcome.standardError.contains("the program lzop is missing"), "\(outcome)")
    #expect(outcome.standardError.contains("apt-get install lzop"))
  }

  @Test func aSnapshotWithoutXMLCannotBecomeAnImage() throws {
    try bench.save("flat", sampleRAM(8))
    let target = bench.directory.file("out.save")
    let outcome = try bench.tool.run("restore", "flat", "--format", "libvirt-save", "-o", target)
    #expect(outcome.ending == .exit(64), "\(outcome)")
    #expect(outcome.standardError.contains("has no XML of libvirt"))
    #expect(!exists(target))
  }
}
