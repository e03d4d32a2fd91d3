import Glibc
import SystemPackage
import VMCheckpointTestSupport

@testable import VMCheckpoint
@testable import VMCheckpointCore
@testable import VMCheckpointFormats

/// A capture of LiME, as a file that is read in place and as a stream: where both can be read they are the same
/// guest. Or, by the first byte of the input, one of AVML.
struct RangeTarget: FuzzTarget {
  private let directory: TemporaryDirectory

  init(_ setting: FuzzSetting) { directory = setting.directory }

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let keptPFNs = (0..<UInt64(input.choice(of: 4))).map { $0 * 5 }
    let path = directory.file("guest.lime")
    let isAVML = input.choice(of: 2) == 1
    try writeFile(path, input.rest())
    let (descriptor, byteCount) = try FileRAMReader.open(path: path)
    defer { try? descriptor.close() }
    if isAVML {
      _ = try read(AVMLStream(try self.input(descriptor), name: "capture"), keptPFNs)
      return
    }
    let streamed = Result {
      try read(LiMEStream(try self.input(descriptor), name: "capture"), keptPFNs)
    }
    let file = DumpFile(descriptor: descriptor, byteCount: byteCount)
    let map = try LoadMap(LiMERanges.loads(in: file), isX86: true)
    try AssembledPages.make(map, from: file).close()
    let pageCount = map.placement.pieces.reduce(0) { $0 + $1.pageCount }
    precondition(pageCount << 12 == map.layout.byteCount, "a page has no place, or two")
    precondition(map.placement.endFileOffset() <= byteCount, "a page is behind the file's end")
    if case .success(let layout) = streamed {
      precondition(layout == map.layout, "a pipe gives another guest than a file")
    }
    precondition(LiMEForm.form(of: map.layout).byteCount > map.layout.byteCount)
  }

  private func input(_ descriptor: FileDescriptor) throws -> DumpInput {
    lseek(descriptor.rawValue, 0, SEEK_SET)
    return try DumpInput(
      StreamReader(
        descriptor: descriptor.rawValue,
        name: "capture",
        cancellation: CancellationFlag()
      )
    )
  }

  /// Reads all ranges in order.
  private func read(_ ranges: any RangeSource, _ keptPFNs: [UInt64]) throws -> RAMLayout {
    let reader = RangeReader(ranges, keptPFNs: keptPFNs)
    let window = try RAMWindow()
    var endPFN: UInt64 = 0
    while try reader.readWindow(into: window) {
      precondition(window.firstPFN >= endPFN && window.pageCount > 0, "windows do not ascend")
      endPFN = window.endPFN
    }
    return try reader.finalLayout()
  }

  var seeds: [[UInt8]] {
    var capture = RangeCaptureBuilder()
    capture.plain(0x1000, [UInt8](repeating: 1, count: 7000))
    capture.plain(0x4000, [UInt8](repeating: 2, count: 8192))
    capture.plain(0xffff_f800, [UInt8](repeating: 3, count: 5000))
    var compressed = RangeCaptureBuilder()
    compressed.compressed(0x1000, [UInt8](repeating: 1, count: 7000))
    compressed.plain(0x4000, [1, 2, 3])
    compressed.compressed(0x20_0000, Array((0..<9000).map { UInt8(truncatingIfNeeded: $0 * $0) }))
    return [
      [0, 0] + capture.bytes, [3, 0] + capture.bytes.prefix(100), [0, 1] + compressed.bytes,
    ]
  }
}
