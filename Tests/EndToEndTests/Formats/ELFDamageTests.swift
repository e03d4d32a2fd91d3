import Testing
import VMCheckpointTestSupport

/// A core that is damaged, hostile, or not a guest's is refused in one line that says what and where, and leaves
/// no store behind.
@Suite struct ELFDamageTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var message: String
    var make: @Sendable () -> [UInt8]

    init(_ name: String, _ message: String, _ make: @escaping @Sendable () -> [UInt8]) {
      testDescription = name
      self.message = message
      self.make = make
    }

    /// The sample with a number in its header or a program header.
    static func field(
      _ name: String,
      _ message: String,
      at offset: Int,
      _ value: UInt64,
      byteCount: Int = 8
    ) -> Case {
      Case(name, message) {
        var bytes = sample.bytes
        for index in 0..<byteCount {
          bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
        }
        return bytes
      }
    }

    /// The sample up to a byte.
    static func cut(_ name: String, _ message: String, at byteCount: Int) -> Case {
      Case(name, "is cut short \(message); wait until it is written, or copy it again") {
        Array(sample.bytes[..<byteCount])
      }
    }

    /// A sample with other segments.
    static func changed(
      _ name: String,
      _ message: String,
      _ change: @escaping @Sendable (inout ELFBuilder) -> Void
    ) -> Case {
      Case(name, message) {
        var elf = sample
        change(&elf)
        return elf.bytes
      }
    }
  }

  /// Notes in program header 0, and two loads.
  static var sample: ELFBuilder {
    var elf = ELFBuilder()
    elf.notes(ELFBuilder.note("CORE", 1, [UInt8](repeating: 3, count: 336)))
    elf.load(0, sampleRAM(2))
    elf.load(0x10000, sampleRAM(2, seed: 2))
    return elf
  }

  /// Where a field of a program header is.
  private static func place(_ header: Int, _ offset: Int) -> Int { 64 + 56 * header + offset }

  private static let machines = "only cores of x86-64, i386 and little-endian arm64 are read"
  private static let load = "program header 2, a load at GPA"
  private static let ram = "in its RAM, program header 2, a load at GPA 0x10000"

  static let files: [Case] = [
    .cut("nothing", "in its header", at: 0),
    .cut("cut in the identification", "in its header", at: 15),
    .cut("cut in the header", "in its header", at: 63),
    .cut("cut before the program headers", "in its program headers", at: 64),
    .cut("cut in the program headers", "in its program headers", at: 64 + 3 * 56 - 1),
    .cut("cut in the notes", "in its notes", at: 64 + 3 * 56 + 355),
    .cut(
      "cut in RAM",
      "in its RAM, program header 1, a load at GPA 0x0",
      at: sample.dataOffset(of: 1) + 4096
    ),
    .cut("cut in the last page", ram, at: sample.bytes.count - 1),
    .field("not ELF", "does not begin like an ELF file", at: 0, 0x7e, byteCount: 1),
    .field("an unknown class", "is of the unknown ELF class 3", at: 4, 3, byteCount: 1),
    .field("big-endian", "is of a big-endian machine; \(machines)", at: 5, 2, byteCount: 1),
    .field("an unknown order", "has the unknown byte order 9; \(machines)", at: 5, 9, byteCount: 1),
    .field("a library", "is an ELF file of type 3, and not a core", at: 16, 3, byteCount: 2),
    .field("of PowerPC", "is of the machine 21; \(machines)", at: 18, 21, byteCount: 2),
    .field(
      "program headers at the end of 64 bits",
      "is cut short in its program headers; wait until it is written, or copy it again",
      at: 32,
      .max
    ),
    .field(
      "small program headers",
      "has program headers of 55 bytes, which are too few",
      at: 54,
      55,
      byteCount: 2
    ),
    .field(
      "no program headers",
      "has no program headers; Xen's cores are such, and cannot be read",
      at: 56,
      0,
      byteCount: 2
    ),
    .field(
      "a count in a section that is not there",
      "does not say how many program headers it has",
      at: 56,
      0xffff,
      byteCount: 2
    ),
    Case(
      "a section header behind the end",
      "is cut short in its first section header; wait until it is written, or copy it again"
    ) {
      var bytes = sample.bytes
      bytes.replaceSubrange(56..<58, with: [0xff, 0xff])
      bytes.replaceSubrange(40..<48, with: [UInt8](repeating: 0xff, count: 8))
      return bytes
    },
    Case("a count of 32 bits", "has 4294967295 program headers, which are too many") {
      var elf = sample
      elf.hasExtendedCount = true
      var bytes = elf.bytes
      bytes.replaceSubrange((64 + 44)..<(64 + 48), with: [UInt8](repeating: 0xff, count: 4))
      return bytes
    },
    .changed("no loads", "holds no RAM: none of its program headers is a load") {
      $0.segments.removeLast(2)
    },
    .changed("empty loads", "holds no RAM: none of its program headers is a load") {
      for index in 1...2 {
        $0.segments[index].data = []
        $0.segments[index].memoryByteCount = 0
      }
    },
    .field(
      "a load at the end of 64 bits of the file",
      "is cut short \(ram); wait until it is written, or copy it again",
      at: place(2, 8),
      .max - 4095
    ),
    .field(
      "a load whose end overflows in the file",
      "is cut short \(ram); wait until it is written, or copy it again",
      at: place(2, 8),
      .max - 8191
    ),
    .field(
      "a load of 64 bits in the file",
      "is damaged: \(load) 0x10000, has 0xffffffffffffffff bytes in the file and 0x2000 in memory",
      at: place(2, 32),
      .max
    ),
    .field(
      "a load of 64 bits in memory",
      "is damaged: \(load) 0x10000, of 0xffffffffffffffff bytes ends beyond 52-bit physical "
        + "addresses",
      at: place(2, 40),
      .max
    ),
    .field(
      "a load that ends at the end of 64 bits",
      "is damaged: \(load) 0xffffffffffffe000, of 0x2000 bytes ends beyond 52-bit physical "
        + "addresses",
      at: place(2, 24),
      .max - 8191
    ),
    .field(
      "a load beyond physical addresses",
      "is damaged: \(load) 0xffffffffff000, of 0x2000 bytes ends beyond 52-bit physical addresses",
      at: place(2, 24),
      (1 << 52) - 4096
    ),
    .field(
      "notes at the end of 64 bits",
      "is cut short in its notes; wait until it is written, or copy it again",
      at: place(0, 8),
      .max
    ),
    .field(
      "notes of 64 bits",
      "is cut short in its notes; wait until it is written, or copy it again",
      at: place(0, 32),
      .max
    ),
    .changed("a note's header cut", "has damaged notes: note 1 has no room for its header") {
      $0.segments[0].data += [1, 0, 0, 0]
    },
    .changed(
      "a note's name of 32 bits",
      "has damaged notes: note 0 has a name of 4294967295 bytes, which ends behind them"
    ) { $0.segments[0].data.replaceSubrange(0..<4, with: [0xff, 0xff, 0xff, 0xff]) },
    .changed(
      "a note of 32 bits",
      "has damaged notes: note 0 has 4294967295 bytes, which end behind them"
    ) { $0.segments[0].data.replaceSubrange(4..<8, with: [0xff, 0xff, 0xff, 0xff]) },
    .changed("notes of different alignment", "has notes of different alignment") {
      $0.notes(ELFBuilder.note("QEMU", 0, [1], alignment: 8), alignment: 8)
    },
    .changed("RAM in too many places", "has RAM in 1025 places, and at most 1024 can be stored") {
      $0.segments.removeLast()
      for index in 1...1024 {
        $0.segments.append(
          .init(type: 1, address: UInt64(index) << 20, data: [], memoryByteCount: 1)
        )
      }
    },
    .changed(
      "the core of a process",
      "is the core of a process, and not of a guest; "
        + "dump the guest's memory, as by: virsh dump --memory-only"
    ) {
      for index in 1...2 {
        $0.segments[index].physicalAddress = 0
        $0.segments[index].virtualAddress = UInt64(index) << 30
      }
    },
    .changed(
      "the core of a process with one load",
      "is the core of a process, and not of a guest; "
        + "dump the guest's memory, as by: virsh dump --memory-only"
    ) { $0.segments[0].data += ELFBuilder.note("CORE", 6, [UInt8](repeating: 0, count: 16)) },
  ]

  private let bench: Workbench

  init() throws { bench = try Workbench() }

  @Test(arguments: files)
  func aDamagedCoreIsRefusedAndNothingIsStored(damage: Case) throws {
    let path = try bench.write("x.elf", damage.make())
    let before = bench.directory.entries
    expectFailure(
      try bench.tool.run("save", "elf:\(path)"),
      65,
      "ELF core \"\(path)\" \(damage.message)"
    )
    #expect(bench.directory.entries == before)
  }

  /// The same by a pipe, where the size is not known before the end.
  @Test(arguments: files)
  func aDamagedCoreFromAPipeIsRefused(damage: Case) throws {
    let path = try bench.write("x.elf", damage.make())
    let outcome = try bench.tool.run("save", "elf:-", "--name", "x", input: .file(path))
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.hasPrefix("vmckpt: ELF core \"stdin\" "), "\(outcome)")
    #expect(outcome.standardError.split(separator: "\n").count == 1)
    #expect(try !bench.tool.run("show", "x").succeeded)
    #expect(bench.leftovers.isEmpty)
  }

  /// Whatever a byte of the headers becomes, the command ends in order.
  @Test func anyByteOfTheHeadersMayBeWrong() throws {
    let bytes = Self.sample.bytes
    for offset in stride(from: 4, to: 64 + 3 * 56 + 20, by: 7) {
      var damaged = bytes
      damaged[offset] ^= 0xff
      let path = try bench.write("x.elf", damaged)
      let outcome = try bench.tool.run("save", "elf:\(path)")
      #expect(outcome.endedOrderly, "byte \(offset): \(outcome)")
    }
  }

  @Test func whatIsNotAFileIsRefused() throws {
    let outcome = try bench.tool.run("save", "elf:\(bench.directory.path)")
    #expect(outcome.ending == .exit(65), "\(outcome)")
    #expect(outcome.standardError.contains("is a directory"), "\(outcome)")
    let missing = try bench.tool.run("save", "elf:\(bench.directory.file("missing"))")
    #expect(missing.ending == .exit(66), "\(missing)")
  }
}
