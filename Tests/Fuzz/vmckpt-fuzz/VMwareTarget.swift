import SystemPackage
import VMCheckpointTestSupport

@testable import VMCheckpoint
@testable import VMCheckpointCore
@testable import VMCheckpointFormats

/// A VM's state of VMware, from its first byte to where each page of RAM comes from.
struct VMwareTarget: FuzzTarget {
  private let directory: TemporaryDirectory

  init(_ setting: FuzzSetting) { directory = setting.directory }

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let path = directory.file("guest.vmss")
    let pageCount = UInt64(input.choice(of: 65536))
    try writeFile(path, input.rest())
    let (descriptor, byteCount) = try FileRAMReader.open(path: path)
    defer { try? descriptor.close() }
    let state = try VMwareState(DumpFile(descriptor: descriptor, byteCount: byteCount))
    let memory = state.memory ?? (0, (pageCount + 1) << 12)
    if state.memory != nil {
      precondition(memory.0 + memory.1 <= byteCount, "RAM is behind the file's end")
    }
    let map = try LoadMap(
      state.loads(fileOffset: memory.0, byteCount: memory.1 & ~4095),
      isX86: true
    )
    precondition(
      map.placement.endFileOffset() <= memory.0 + memory.1,
      "a page is behind the end of RAM"
    )
  }

  var seeds: [[UInt8]] {
    var state = VMwareBuilder()
    state.regions = [
      .init(pfn: 0, pageIndex: 0, pageCount: 3), .init(pfn: 1 << 20, pageIndex: 3, pageCount: 2),
    ]
    state.otherTags = VMwareBuilder.block("x", [1, 2, 3], padding: 5)
    var whole = state
    whole.ram = [UInt8](repeating: 1, count: 5 * 4096)
    return [[5, 0] + state.bytes, [0, 0] + whole.bytes]
  }
}
