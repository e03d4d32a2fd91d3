import SystemPackage
import VMCheckpointTestSupport

@testable import VMCheckpoint
@testable import VMCheckpointCore
@testable import VMCheckpointFormats

/// An ELF core, from its first byte to where each page comes from; its notes as a device state; and, by the
/// first byte of the input, a migration stream's devices, out of which notes are made.
struct ELFTarget: FuzzTarget {
  private let directory: TemporaryDirectory

  init(_ setting: FuzzSetting) { directory = setting.directory }

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let kind = input.choice(of: 3)
    let bytes = input.rest()
    switch kind {
    case 0: try readFile(bytes)
    case 1:
      let state = DeviceState(name: "elf-notes", format: "elf-notes", version: 1, data: bytes)
      _ = try ELFNotes(state, of: "snapshot")
    default:
      guard let sections = QEMUDeviceSections(bytes, ramOffset: 0) else { return }
      _ = sections.devices(named: "vmcoreinfo").first?.fields.integer("vmcoreinfo.paddr")
      if let processors = QEMUProcessor.all(in: sections) {
        _ = try ELFProcessorNotes.notes(processors).all()
      }
    }
  }

  private func readFile(_ bytes: [UInt8]) throws {
    let path = directory.file("guest.elf")
    try writeFile(path, bytes)
    let (descriptor, byteCount) = try FileRAMReader.open(path: path)
    defer { try? descriptor.close() }
    var file = DumpFile(descriptor: descriptor, byteCount: byteCount)
    let core = try ELFCore(reading: &file)
    let map = try LoadMap(core.loads, isX86: core.machine.isX86)
    let pageCount = map.placement.pieces.reduce(0) { $0 + $1.pageCount }
    precondition(pageCount << 12 == map.layout.byteCount, "a page has no place, or two")
    precondition(map.placement.endFileOffset() <= byteCount, "a page is behind the file's end")
    try AssembledPages.make(map, from: file).close()
    // What is kept is read again as the same.
    let again = try ELFNotes(core.notes.deviceState, of: "snapshot")
    precondition(again == core.notes, "notes do not survive being kept")
    let layout = ELFCoreLayout(map.layout, noteByteCount: core.notes.bytes.count)
    var written = DumpBytes(layout.head(core.notes))
    _ = try? ELFCore(reading: &written, requiresRAM: false)
  }

  var seeds: [[UInt8]] {
    var elf = ELFBuilder()
    elf.notes(ELFBuilder.note("CORE", 1, [1, 2, 3, 4]))
    elf.load(0, [UInt8](repeating: 1, count: 8192), memoryByteCount: 12288)
    elf.load(4000, [UInt8](repeating: 2, count: 5000))
    elf.load(1 << 32, [UInt8](repeating: 3, count: 4096))
    var narrow = elf
    narrow.is64Bit = false
    narrow.machine = 3
    narrow.hasExtendedCount = true
    var notes = ELFBuilder()
    notes.notes(ELFBuilder.note("VMCOREINFO", 0, Array("OSRELEASE=6".utf8)), alignment: 8)
    return [[0] + elf.bytes, [0] + narrow.bytes, [1] + notes.bytes, [2] + Self.devices]
  }

  /// The end of a RAM section, and two devices with their description.
  private static var devices: [UInt8] {
    var stream = QEMUStreamBuilder()
    stream.ramPart(3)
    stream.page("vga.vram", 0, [UInt8](repeating: 0, count: 4096))
    stream.ramEnd()
    func section(_ id: UInt32, _ name: String, _ state: [UInt8]) {
      stream.raw([4])
      stream.number(id)
      stream.string(name)
      stream.number(UInt32(0))
      stream.number(UInt32(1))
      stream.raw(state)
      stream.raw([0x7e])
      stream.number(id)
    }
    let segment =
      #""struct":{"fields":[{"name":"selector","size":4},{"name":"base","size":8},"#
      + #"{"name":"limit","size":4},{"name":"flags","size":4}]},"size":20}"#
    let single = ["ldt", "tr", "gdt", "idt"].map { #"{"name":"env.\#($0)",\#(segment)"# }
    let control = [0, 2, 3, 4].map { #"{"name":"env.cr[\#($0)]","size":8}"# }
    let fields =
      [
        #"{"name":"env.regs","array_len":16,"size":8},{"name":"env.eip","size":8}"#,
        #"{"name":"env.eflags","size":8},{"name":"env.hflags","size":4}"#,
        #"{"name":"env.segs","array_len":6,\#(segment)"#,
      ] + single + control
    section(1, "cpu", [UInt8](repeating: 1, count: 128 + 20 + 120 + 80 + 32))
    section(2, "vmcoreinfo", [1, 0, 0, 0, 0, 16, 0])
    stream.raw([0])
    let description =
      #"{"page_size":4096,"devices":[{"name":"cpu","instance_id":0,"version":1,"fields":["#
      + fields.joined(separator: ",")
      + #"]},{"name":"vmcoreinfo","instance_id":0,"version":1,"fields":["#
      + #"{"name":"has_vmcoreinfo","size":1},{"name":"vmcoreinfo.size","size":4},"#
      + #"{"name":"vmcoreinfo.paddr","size":2}]}]}"#
    stream.raw([6])
    stream.number(UInt32(description.utf8.count))
    stream.raw(Array(description.utf8))
    return stream.bytes
  }
}
