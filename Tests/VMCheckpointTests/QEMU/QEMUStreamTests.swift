import Glibc
import Testing
import VMCheckpoint
import VMCheckpointFormats
import VMCheckpointTestSupport

/// Streams as QEMU could send them, from a generator that shares no code with the parser.
@Suite struct QEMUStreamTests {
  private static let zeroPage = [UInt8](repeating: 0, count: 4096)

  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  private var storePath: String { directory.file("store.db") }

  @discardableResult
  private func save(
    _ stream: [UInt8],
    _ name: String? = nil,
    layout: RAMLayoutSource = .contiguous
  ) throws -> SaveResult {
    let path = directory.file("stream")
    try writeFile(path, stream)
    return try Store.save(
      SaveRequest(
        input: .qemuStream(.file(path: path)),
        layout: layout,
        name: name,
        vm: "vm",
        parent: .none
      ),
      toStoreAt: storePath
    )
  }

  /// From a pipe pages are put down, and from a file they are read in place.
  private func savePiped(_ stream: [UInt8], _ name: String) throws -> SaveResult {
    let pipe = try ChildPipe()
    let (reader, store) = (pipe.reader, storePath)
    let saved = ThreadResult {
      Result {
        try Store.save(
          SaveRequest(
            input: .qemuStream(.descriptor(reader, name: "pipe")),
            name: name,
            vm: "vm",
            parent: .none
          ),
          toStoreAt: store
        )
      }
    }
    try pipe.write(stream)
    pipe.closeWriter()
    return try saved.wait().get()
  }

  private func restored(_ name: String, _ format: RestoreFormat) throws -> [UInt8] {
    let path = directory.file("restored")
    _ = try Store.open(at: storePath).restore(
      RestoreRequest(
        reference: SnapshotReference(name),
        output: .file(path: path),
        format: format,
        overwrites: true
      )
    )
    return try readFile(path)
  }

  /// The last content of a page that was sent several times must win, also where that is zero, and
  /// what is restored must be a stream that gives the same guest.
  @Test(arguments: 1...12)
  func pagesSentAgainWinAndComeBack(seed: UInt64) throws {
    var generator = TestGenerator(seed: seed)
    var pool: [[UInt8]] = []
    let blocks = [
      ("pc.ram", generator.int(1...90)), ("0000:00:01.0/vga.vram", generator.int(1...20)),
      ("pc.bios", 3),
    ].shuffled(using: &generator).map { (name: $0.0, pageCount: $0.1) }
    let capabilities: [String] = seed % 3 == 0 ? ["x-ignore-shared"] : []
    var builder = QEMUStreamBuilder()
    builder.header(capabilities: capabilities)
    // A return path is asked for, and an answer by it.
    if generator.oneIn(2) { builder.raw([8, 0, 1, 0, 0, 8, 0, 2, 0, 4, 0, 0, 0, 1]) }
    builder.ramStart(blocks, addresses: !capabilities.isEmpty)
    var model = blocks.reduce(into: [:]) {
      $0[$1.name] = Array(repeating: Self.zeroPage, count: $1.pageCount)
    }
    for part in 0...4 {
      if part == 4 { builder.raw([8, 0, 2, 0, 4, 0, 0, 0, 3, 8, 0, 11, 0, 0]) }
      builder.ramPart(part == 4 ? 3 : 2)
      for block in blocks {
        for index in 0..<block.pageCount where part == 0 || generator.oneIn(3) {
          let page =
            generator.oneIn(5)
            ? [UInt8](repeating: UInt8(generator.int(0...255)), count: 4096)
            : generator.page(pool: &pool)
          builder.page(block.name, index, page, compact: generator.oneIn(2))
          model[block.name]![index] = page
        }
      }
      builder.ramEnd()
    }
    builder.devices()
    let result = try save(builder.bytes, "first")
    #expect(try restored("first", .raw) == model["pc.ram"]!.flatMap(\.self))
    #expect(try savePiped(builder.bytes, "piped").digest == result.digest)
    let stream = try restored("first", .qemuStream)
    #expect(try save(stream, "second").digest == result.digest)
    #expect(try restored("second", .qemuStream) == stream)

    // The same guest in one straight pass.
    var straight = QEMUStreamBuilder()
    straight.header()
    straight.ramStart(blocks)
    straight.raw([8, 0, 11, 0, 0])
    straight.ramPart(3)
    for block in blocks {
      for (index, page) in model[block.name]!.enumerated() {
        straight.page(block.name, index, page)
      }
    }
    straight.ramEnd()
    straight.devices()
    #expect(try save(straight.bytes, "straight").digest == result.digest)
  }

  /// RAM of a large guest lies on both sides of the hole below 4 GiB.
  @Test(arguments: [
    ("pc-q35-7.2", UInt64(0x8000_0000)), ("pc-i440fx-9.2", 0xC000_0000),
    ("pc-q35-rhel9.4.0", 0x8000_0000),
  ])
  func ramLiesAroundTheHole(machine: String, lowByteCount: UInt64) throws {
    let pageCount = 0x1_0000_0000 / 4096
    var builder = QEMUStreamBuilder()
    builder.header(machine: machine)
    builder.ramStart([("pc.ram", pageCount)])
    builder.ramPart(3)
    let lowPageCount = Int(lowByteCount / 4096)
    let marked = [0, lowPageCount - 1, lowPageCount, pageCount - 1]
    for index in marked {
      builder.page("pc.ram", index, [UInt8](repeating: UInt8(index & 0xff) | 1, count: 4096))
    }
    builder.ramEnd()
    builder.devices()
    let result = try save(builder.bytes, "large")
    #expect(result.ramByteCount == UInt64(pageCount) * 4096)
    #expect(result.storedPageCount == UInt64(marked.count))
    let regions = try Store.open(at: storePath).snapshot(SnapshotReference("large")).regions
    #expect(regions.map(\.gpa) == [0, 0x1_0000_0000])
    #expect(regions.map(\.byteCount) == [lowByteCount, 0x1_0000_0000 - lowByteCount])
    #expect(regions.map(\.fileOffset) == [0, lowByteCount])
  }

  private static func stream(
    capabilities: [String] = [],
    _ ram: (inout QEMUStreamBuilder) -> Void
  ) -> [UInt8] {
    var builder = QEMUStreamBuilder()
    builder.header(capabilities: capabilities)
    ram(&builder)
    return builder.bytes
  }

  private static func stream(flags: UInt64) -> [UInt8] {
    stream {
      $0.ramStart([("pc.ram", 1)])
      $0.ramPart(2)
      $0.number(flags)
      $0.string("pc.ram")
      $0.raw(zeroPage)
    }
  }

  /// What the message must name, and a stream that has it.
  static let refused: [(String, [UInt8])] = [
    ("xbzrle", stream(flags: 0x40)),
    ("compression", stream(flags: 0x100)),
    ("multifd", stream(flags: 0x200)),
    ("RDMA", stream(flags: 0x80)),
    ("flags 0x400", stream(flags: 0x400)),
    ("flags 0xa", stream(flags: 0x0a)),
    ("mapped-ram", stream(capabilities: ["mapped-ram"]) { $0.ramStart([("pc.ram", 1)]) }),
    ("virtio-iterative", stream(capabilities: ["virtio-iterative"]) { _ in }),
    ("dirty-bitmap", stream { $0.ramStart([("pc.ram", 1)], section: "dirty-bitmap") }),
    ("version 5", stream { $0.ramStart([("pc.ram", 1)], version: 5) }),
    ("postcopy", stream { $0.raw([8, 0, 3, 0, 0]) }),
    (
      "postcopy",
      stream {
        $0.ramStart([("pc.ram", 1)])
        $0.raw([8, 0, 8, 0, 4, 0, 0, 0, 0])
      }
    ),
    (
      "unknown command 1",
      stream {
        $0.ramStart([("pc.ram", 1)])
        $0.raw([8, 0, 1, 0, 1, 0])
      }
    ),
    (
      "vfio",
      stream {
        $0.ramStart([("pc.ram", 1)])
        $0.raw([1, 0, 0, 0, 5])
        $0.string("0000:00:02.0/vfio")
      }
    ),
    (
      "section type 9",
      stream {
        $0.ramStart([("pc.ram", 1)])
        $0.raw([9])
      }
    ),
    (
      "background-snapshot",
      stream {
        $0.ramStart([("pc.ram", 1)])
        $0.raw([4, 0, 0, 0, 2])
        $0.string("timer")
      }
    ),
    (
      "virtio-mem",
      stream {
        $0.raw([4, 0, 0, 0, 1])
        $0.string("virtio-mem-early")
      }
    ),
    ("multifd", [0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1]),
    ("TLS", [0x16, 0x03, 0x01, 0x02, 0, 1, 0, 1]),
    ("not a migration stream", Array("#!/bin/sh\n".utf8)),
    ("version 2", Array("QEVM".utf8) + [0, 0, 0, 2]),
    ("machine type", Array("QEVM".utf8) + [0, 0, 0, 3, 7, 0xff, 0xff, 0xff, 0xff]),
    ("bytes of RAM", stream { $0.ramStart([("pc.ram", 1 << 40)]) }),
    (
      "cannot be told",
      stream {
        $0.ramStart([("node0", 1), ("node1", 1)])
        $0.ramPart(3)
        $0.page("node0", 0, zeroPage)
        $0.page("node1", 0, zeroPage)
        $0.ramEnd()
        $0.devices()
      }
    ),
    (
      "is not in RAM block",
      stream {
        $0.ramStart([("pc.ram", 1)])
        $0.ramPart(3)
        $0.page("pc.ram", 1, zeroPage)
      }
    ),
    (
      "not in the list",
      stream {
        $0.ramStart([("pc.ram", 1)])
        $0.ramPart(3)
        $0.page("other", 0, zeroPage)
      }
    ),
    (
      "shared",
      stream(capabilities: ["x-ignore-shared"]) {
        $0.ramStart([("pc.ram", 1)], addresses: true)
        $0.ramPart(3)
        $0.ramEnd()
        $0.devices()
      }
    ),
  ]

  /// A stream that is not understood must not become a snapshot that cannot be resumed: it is refused
  /// by name, and before a store is made.
  @Test(arguments: refused.indices)
  func refusesByNameWhatItCannotParse(index: Int) throws {
    let (name, stream) = Self.refused[index]
    let error = #expect(throws: VMCheckpointError.self) { try save(stream) }
    #expect(error?.code == .invalidData)
    #expect("\(error.map(String.init(describing:)) ?? "")".contains(name))
    #expect(!exists(storePath))
    #expect(directory.entries == ["stream"])
  }

  /// QEMU's own exit is no proof: a migration that fails leaves a stream that just ends.
  @Test func refusesAStreamThatWasCutOffAnywhere() throws {
    var builder = QEMUStreamBuilder()
    builder.header(capabilities: ["x-ignore-shared"])
    builder.ramStart([("pc.ram", 2), ("pc.bios", 1)], addresses: true)
    builder.ramPart(3)
    for (block, index) in [("pc.ram", 0), ("pc.ram", 1), ("pc.bios", 0)] {
      builder.page(block, index, [UInt8](repeating: 7, count: 4096))
    }
    builder.ramEnd()
    builder.devices()
    for byteCount in 0..<builder.bytes.count {
      let error = #expect(throws: VMCheckpointError.self) {
        try save(Array(builder.bytes[..<byteCount]))
      }
      #expect(error?.code == .invalidData, "\(byteCount)")
    }
    #expect(!exists(storePath))
    try save(builder.bytes)
  }

  /// The second would be taken for state of the first's devices, its RAM included.
  @Test func refusesStreamsThatWereJoined() throws {
    let stream = Self.wholeStream()
    let error = #expect(throws: VMCheckpointError.self) { try save(stream + stream) }
    #expect(error?.message.hasSuffix("it goes on after its end") == true)
    #expect(!exists(storePath))
    try save(stream)
  }

  /// Up to QEMU 7.2 nothing before RAM tells of it.
  @Test func refusesVirtioMemThatOnlyTheDescriptionTells() throws {
    let stream = Self.wholeStream(device: "0000:00:03.0/virtio-mem")
    let error = #expect(throws: VMCheckpointError.self) { try save(stream) }
    #expect(error?.message.contains("the machine has virtio-mem") == true)
    #expect(!exists(storePath))
  }

  private static func wholeStream(device: String = "timer") -> [UInt8] {
    var builder = QEMUStreamBuilder()
    builder.header()
    builder.ramStart([("pc.ram", 1)])
    builder.ramPart(3)
    builder.page("pc.ram", 0, [UInt8](repeating: 7, count: 4096))
    builder.ramEnd()
    builder.devices(name: device)
    return builder.bytes
  }

  /// A stream is input from anywhere: whatever a byte becomes, the answer is an error or a snapshot
  /// that restores to a stream which gives it again.
  @Test(.slow) func anyByteMayBeWrong() throws {
    var builder = QEMUStreamBuilder()
    builder.header()
    builder.ramStart([("pc.ram", 2), ("pc.bios", 1)])
    builder.ramPart(3)
    for (block, index) in [("pc.ram", 0), ("pc.ram", 1), ("pc.bios", 0)] {
      builder.page(block, index, [UInt8](repeating: 7, count: 4096))
    }
    builder.ramEnd()
    builder.devices()
    var generator = TestGenerator(seed: 77)
    for position in builder.bytes.indices {
      var stream = builder.bytes
      stream[position] ^= UInt8(generator.int(1...255))
      let result: SaveResult
      do {
        result = try save(stream, "\(position)")
      } catch let error as VMCheckpointError {
        #expect(error.code == .invalidData, "\(position): \(error)")
        continue
      }
      let again = try restored("\(position)", .qemuStream)
      #expect(try save(again, "\(position)/again").digest == result.digest, "\(position)")
    }
  }

  @Test func aSnapshotWithoutAStreamIsNotGivenBackAsOne() throws {
    let path = directory.file("ram")
    try writeSparseFile(path, sampleRAM(4))
    _ = try Store.save(SaveRequest(input: .file(path: path), name: "raw"), toStoreAt: storePath)
    let error = #expect(throws: VMCheckpointError.self) { try restored("raw", .qemuStream) }
    #expect(error?.code == .invalidArgument)
    #expect(directory.entries.allSatisfy { !$0.hasSuffix(".tmp") })
  }
}
