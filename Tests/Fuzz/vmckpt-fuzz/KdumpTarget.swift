import Glibc
import SystemPackage
import VMCheckpointTestSupport

@testable import VMCheckpoint
@testable import VMCheckpointCore
@testable import VMCheckpointFormats

/// A kdump, flattened or not by the first byte of the input: from its headers to its last page.
struct KdumpTarget: FuzzTarget {
  private let directory: TemporaryDirectory

  init(_ setting: FuzzSetting) { directory = setting.directory }

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let isFlattened = input.choice(of: 2) == 1
    let path = directory.file("guest.kdump")
    try writeFile(path, input.rest())
    let (descriptor, byteCount) = try FileRAMReader.open(path: path)
    let file: DumpFile
    if isFlattened {
      defer { try? descriptor.close() }
      let stream = StreamReader(
        descriptor: descriptor.rawValue,
        name: "dump",
        cancellation: CancellationFlag()
      )
      file = try KdumpFlattened.assemble(DumpInput(stream), in: directory.path)
    } else {
      file = DumpFile(descriptor: descriptor, byteCount: byteCount)
    }
    let guest = try KdumpSource.guest(file, name: "dump", OperationControl())
    let layout = guest.layout!
    // A few bits make a guest of terabytes, whose windows of zeros nobody reads.
    let reader = try guest.makeReader([layout.endPFN - 1])
    let window = try RAMWindow()
    var endPFN: UInt64 = 0
    while try reader.readWindow(into: window) {
      precondition(window.firstPFN >= endPFN && window.pageCount > 0, "windows do not ascend")
      endPFN = window.endPFN
      precondition(
        layout.contains(PFN(unchecked: window.firstPFN))
          && layout.contains(PFN(unchecked: endPFN - 1)),
        "a window is not RAM"
      )
    }
    precondition(endPFN == layout.endPFN, "the last page was not visited")
  }

  var seeds: [[UInt8]] {
    var dump = KdumpBuilder()
    dump.notes = ELFBuilder.note("CORE", 1, [1, 2, 3, 4])
    dump.vmcoreinfo = Array("OSRELEASE=6".utf8)
    dump.page(0, [UInt8](repeating: 0, count: 4096))
    dump.page(3, [UInt8](repeating: 1, count: 4096))
    dump.excluded = [4, 5, 40]
    // Pages of zeros as zlib, LZO and zstd have them.
    dump.pages[6] = .init(
      [0x78, 0x9c, 0xed, 0xc1, 1, 1, 0, 0, 0, 0x80, 0x90, 0xfe, 0xaf, 0xee, 8, 0x0a]
        + [UInt8](repeating: 0, count: 9) + [0x18, 0x80, 0, 1],
      flags: 1
    )
    dump.pages[7] = .init(
      [0x12, 0, 0x20] + [UInt8](repeating: 0, count: 15) + [0x11, 0, 0],
      flags: 2
    )
    dump.pages[8] = .init([0x28, 0xb5, 0x2f, 0xfd, 0x60, 0, 0x0f, 3, 0, 2, 0], flags: 0x20)
    var narrow = dump
    narrow.isWide = false
    narrow.version = 4
    return [
      [0] + dump.bytes, [0] + narrow.bytes,
      [1] + KdumpBuilder.flattened(Array(dump.bytes), pieceByteCount: 9000),
    ]
  }
}
