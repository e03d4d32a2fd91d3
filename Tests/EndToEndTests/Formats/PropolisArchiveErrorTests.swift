import Testing
import VMCheckpointTestSupport

/// An archive that is damaged, hostile, or no snapshot is refused in one line that says why, and
/// leaves no store behind.
@Suite struct PropolisArchiveErrorTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var message: String
    var make: @Sendable (PropolisSample) -> [UInt8]

    init(
      _ name: String,
      _ message: String,
      _ make: @escaping @Sendable (PropolisSample) -> [UInt8]
    ) {
      testDescription = name
      self.message = message
      self.make = make
    }

    /// The sample's archive with more before its RAM.
    static func extra(
      _ name: String,
      _ message: String,
      _ add: @escaping @Sendable (inout TarBuilder) -> Void
    ) -> Case {
      Case(name, message) { sample in
        var tar = sample.beginning()
        add(&tar)
        tar.file(sample.memoryName, sample.ram)
        tar.end()
        return tar.bytes
      }
    }

    /// The archive of a sample that is changed first.
    static func changed(
      _ name: String,
      _ message: String,
      _ change: @escaping @Sendable (inout PropolisSample) -> Void
    ) -> Case {
      Case(name, message) { sample in
        var sample = sample
        change(&sample)
        return sample.archive().bytes
      }
    }
  }

  private static let cutShort = "; wait until it is written, or copy it again"
  private static let noHeader =
    "holds no tar header where one must be; write it uncompressed in GNU's format, as by: "
    + "tar --format=gnu -cf"
  private static let pack = "; pack the files themselves, as by: tar --format=gnu -cf"
  private static let members =
    "; its members are config.toml, global.json, devices/*.json and memory/START-END.bin"

  static let archives: [Case] = [
    Case("empty", "is cut short\(cutShort)") { _ in [] },
    Case("no tar", noHeader) { _ in
      [UInt8](repeating: 0x41, count: 4096)
    },
    Case(
      "cut in RAM",
      "is cut short: its member \"memory/00000000-00100000.bin\" is not whole\(cutShort)"
    ) { Array($0.archive().bytes.dropLast(1024 + 512)) },
    Case(
      "cut in a header",
      "is cut short\(cutShort)"
    ) { Array($0.beginning().bytes.dropLast(700)) },
    Case("without an end", "is cut short\(cutShort)") { Array($0.archive().bytes.dropLast(1024)) },
    Case("with half an end", "is cut short\(cutShort)") { Array($0.archive().bytes.dropLast(512)) },
    Case("two archives", "goes on after its end; give one archive, not several joined") {
      $0.archive().bytes + $0.archive().bytes
    },
    .extra("wrong checksum", "has a header whose checksum is wrong") {
      $0.append(TarBuilder.header("devices/x.json", checksumError: 1))
    },
    .extra("old header", noHeader) {
      $0.append(TarBuilder.header("devices/x.json", format: .none))
    },
    .extra("size beyond 63 bits", "has a header whose size is negative or has more than 63 bits") {
      $0.append(TarBuilder.header("devices/x.json", size: TarBuilder.base256(1 << 63)))
    },
    .extra("negative size", "has a header whose size is negative or has more than 63 bits") {
      $0.append(TarBuilder.header("devices/x.json", size: .init(repeating: 0xff, count: 12)))
    },
    .extra(
      "size past the end",
      "is cut short: its member \"devices/x.json\" is not whole\(cutShort)"
    ) {
      $0.append(TarBuilder.header("devices/x.json", size: TarBuilder.base256(1 << 61)))
    },
    .extra("size near 63 bits", "is cut short\(cutShort)") {
      $0.append(TarBuilder.header("devices/x.json", size: TarBuilder.base256(.max >> 1)))
    },
    .extra("size that is not a number", "has a header whose size is not a number") {
      $0.append(TarBuilder.header("devices/x.json", size: Array("00000000009\u{0}".utf8)))
    },
    .extra("symbolic link", "has a member \"devices/x.json\" that is a symbolic link\(pack)") {
      $0.append(TarBuilder.header("devices/x.json", type: "2"))
    },
    .extra("hard link", "has a member \"devices/x.json\" that is a hard link\(pack)") {
      $0.append(TarBuilder.header("devices/x.json", type: "1"))
    },
    .extra(
      "sparse",
      "has a member \"devices/x.json\" that is a sparse file, which cannot be read in place\(pack)"
    ) { $0.append(TarBuilder.header("devices/x.json", type: "S")) },
    .extra(
      "unknown type",
      "has a member \"devices/x.json\" that is of the unknown type 0x57\(pack)"
    ) {
      $0.append(TarBuilder.header("devices/x.json", type: "W"))
    },
    .extra("absolute", "has a member with the name \"/devices/x.json\", which is not plain") {
      $0.file("/devices/x.json", "{}")
    },
    .extra("upwards", "has a member with the name \"devices/../x.json\", which is not plain") {
      $0.file("devices/../x.json", "{}")
    },
    .extra(
      "upwards by prefix",
      "has a member with the name \"../devices/x.json\", which is not plain"
    ) {
      $0.append(TarBuilder.header("devices/x.json", format: .ustar, prefix: ".."))
    },
    .extra("twice", "has two members \"global.json\"") { $0.file("global.json", "{}") },
    .extra(
      "unknown member",
      "has a member \"devices.json\", which no snapshot of propolis-standalone has\(members)"
    ) { $0.file("devices.json", "{}") },
    .extra(
      "nested device",
      "has a member \"devices/a/b.json\", which no snapshot of propolis-standalone has\(members)"
    ) { $0.file("devices/a/b.json", "{}") },
    .extra("directory with data", "has a directory \"memory\" with data") {
      $0.append(TarBuilder.header("memory", byteCount: 512, type: "5"))
    },
    .extra("two long names", "gives a member two long names") {
      for _ in 0..<2 {
        $0.append(TarBuilder.header("././@LongLink", byteCount: 3, type: "L"))
        $0.appendData([0x61, 0x62, 0])
      }
    },
    .extra("endless name", "has a header of 1099511627776 bytes, and at most 4096 make sense") {
      $0.append(TarBuilder.header("././@LongLink", type: "L", size: TarBuilder.base256(1 << 40)))
    },
    .extra("name for nothing", "ends where a member should follow") {
      $0.append(TarBuilder.header("././@LongLink", byteCount: 3, type: "L"))
      $0.appendData([0x61, 0x62, 0])
      $0.end()
    },
    .extra(
      "extended size",
      "has an extended header with \"size\", which is not supported; "
        + "write it in GNU's format, as by: tar --format=gnu -cf"
    ) {
      $0.append(TarBuilder.header("x", byteCount: 10, type: "x", format: .ustar))
      $0.appendData(Array("10 size=9\n".utf8))
    },
    .extra("damaged extended header", "has a damaged extended header") {
      $0.append(TarBuilder.header("x", byteCount: 10, type: "x", format: .ustar))
      $0.appendData(Array("99 mtime=\n".utf8))
    },
    .extra("too many members", "has more than 4096 members") {
      for index in 0..<4100 { $0.file("devices/\(index).json", "") }
    },
    .extra("name that is no UTF-8", "has a member whose name is empty or not UTF-8") {
      $0.append(TarBuilder.header("L", byteCount: 2, type: "L"))
      $0.appendData([0xff, 0])
      $0.file("x", "")
    },
    .extra(
      "name that is none of a state",
      "has a member \"devices/a b.json\", which cannot be the name of a device state; "
        + "a device state name has 1 to 255 letters, digits and ._-/:@+"
    ) { $0.file("devices/a b.json", "{}") },
  ]

  static let snapshots: [Case] = [
    Case("without RAM", "has no RAM in memory/") {
      var tar = $0.beginning()
      tar.end()
      return tar.bytes
    },
    Case(
      "without configuration",
      "has no config.toml; give a snapshot that propolis-standalone has written"
    ) {
      var tar = TarBuilder()
      tar.file("global.json", $0.global)
      tar.end()
      return tar.bytes
    },
    Case(
      "RAM of another size",
      "has a member \"memory/00000000-00200000.bin\" of 1048576 bytes, which is not the "
        + "size in its name"
    ) {
      var tar = $0.beginning()
      tar.file("memory/00000000-00200000.bin", $0.ram)
      tar.end()
      return tar.bytes
    },
    Case(
      "RAM elsewhere",
      "has RAM where Propolis puts none: 0x1000-0x101000; "
        + "RAM lies from 0 up to 3 GiB, and the rest from 4 GiB on"
    ) {
      var tar = $0.beginning()
      tar.file("memory/00001000-00101000.bin", $0.ram)
      tar.end()
      return tar.bytes
    },
    Case(
      "RAM spelled otherwise",
      "has a member \"memory/0-100000.bin\", which no snapshot of propolis-standalone "
        + "has\(members)"
    ) {
      var tar = $0.beginning()
      tar.file("memory/0-100000.bin", $0.ram)
      tar.end()
      return tar.bytes
    },
    .changed(
      "other memory",
      "is not usable: config.toml says that main.memory is 2 MiB, and memory/ holds 1048576 bytes"
    ) {
      $0.config = PropolisSample.config(mebibytes: 2)
    },
    .changed(
      "no memory",
      "is not usable: config.toml has no number main.memory, the guest's RAM in MiB"
    ) {
      $0.config = "memory = 1\n[main]\nmemory = \"1\"\n"
    },
    .changed(
      "negative memory",
      "is not usable: config.toml says that main.memory is -1 MiB, which no guest has"
    ) {
      $0.config = "[main]\nmemory = -1\n"
    },
    .changed("no TOML", "is not usable: config.toml is not TOML: line 2") {
      $0.config = "[main]\nmemory = = 1\n"
    },
    .changed("memory twice", "is not usable: config.toml is not TOML: line 3") {
      $0.config = "[main]\nmemory = 1\nmemory = 1\n"
    },
    // Fuzzing found it: the parser stopped the process.
    .changed("a table's name that is none", "is not usable: config.toml is not TOML: line 1") {
      $0.config = "[/e 9]\nmemory = 1\n"
    },
    .changed("memory twice, a text first", "is not usable: config.toml is not TOML: line 3") {
      $0.config = "[main]\nmemory = \"1\"\nmemory = 1\n"
    },
    .changed("a NUL in the configuration", "is not usable: config.toml is not UTF-8 text") {
      $0.config += "\u{0}"
    },
    .changed(
      "no time",
      "is not usable: global.json is not as Propolis writes it: boot_hrtime: missing"
    ) {
      $0.global = "{}"
    },
    .changed(
      "device that is no JSON",
      "is not usable: devices/vcpu-0.json is not as Propolis writes it: expected a "
        + "value (line 1, column 1)"
    ) { $0.devices[1].json = "x" },
    .changed(
      "payload without a version",
      "is not usable: devices/vcpu-0.json is not as Propolis writes it: "
        + "payload[0].version: missing"
    ) { $0.devices[1].json = #"{"instance_name":"a","payload":[{"kind":"k","data":"{}"}]}"# },
  ]

  @Test(.slow, arguments: archives + snapshots)
  func isRefused(_ archive: Case) throws {
    let bench = try Workbench()
    let path = bench.directory.file("a.tar")
    try writeFile(path, archive.make(PropolisSample()))
    expectFailure(
      try bench.tool.run("save", "propolis:\(path)"),
      65,
      "Propolis snapshot \"\(path)\" \(archive.message)"
    )
    #expect(!exists(bench.storePath))
  }

  /// Whatever is changed: it is refused, or what comes back is what went in.
  @Test(.slow) func aFlippedByteIsRefusedOrComesBack() throws {
    let bench = try Workbench()
    var generator = TestGenerator(seed: 77)
    var sample = PropolisSample()
    sample.addHyperV(#"{"msr_guest_os_id":1,"msr_hypercall":4097,"reference_tsc":null}"#)
    let whole = sample.archive().bytes
    let headByteCount = sample.beginning().bytes.count + 512
    let path = bench.directory.file("a.tar")
    var restoredCount = 0
    for round in 0..<soakRounds(40) {
      var bytes = whole
      // Padding is not kept, so only bytes that say something are changed.
      var offset = generator.int(0...(headByteCount - 1))
      while bytes[offset] == 0 { offset = generator.int(0...(headByteCount - 1)) }
      bytes[offset] ^= UInt8(generator.int(1...255))
      if generator.oneIn(2) { Self.repairChecksum(&bytes, at: offset) }
      try writeFile(path, bytes)
      let outcome = try bench.tool.run("save", "propolis:\(path)", "--name", "r\(round)")
      #expect(outcome.endedOrderly, "\(outcome)")
      guard outcome.succeeded else {
        #expect(outcome.standardError.split(separator: "\n").count == 1, "\(outcome)")
        continue
      }
      restoredCount += 1
      let out = bench.directory.file("r\(round).out")
      expectSuccess(try bench.tool.run("restore", "r\(round)", "-o", out, "--format", "propolis"))
      #expect(try readFile(out) == bytes, "offset \(offset)")
    }
    #expect(restoredCount > 0)
  }

  /// Makes the checksum of the header that holds `offset`, if it is one, right again.
  private static func repairChecksum(_ bytes: inout [UInt8], at offset: Int) {
    let start = offset / 512 * 512
    guard bytes[(start + 257)..<(start + 262)].elementsEqual("ustar".utf8) else { return }
    var block = Array(bytes[start..<(start + 512)])
    block.replaceSubrange(148..<156, with: [UInt8](repeating: 0x20, count: 8))
    let digits = String(block.reduce(0) { $0 + Int($1) }, radix: 8)
    let text = String(repeating: "0", count: 6 - digits.count) + digits + "\u{0} "
    bytes.replaceSubrange((start + 148)..<(start + 156), with: text.utf8)
  }
}
