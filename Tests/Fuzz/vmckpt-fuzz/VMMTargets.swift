import VMCheckpointTestSupport

@testable import VMCheckpoint
@testable import VMCheckpointCore
@testable import VMCheckpointFormats

/// Checks that a layout's pieces are its pages, each once, inside the file.
private func check(_ layout: RAMLayout, _ placement: RAMPlacement, fileByteCount: UInt64) {
  let pageCount = placement.pieces.reduce(0) { $0 + $1.pageCount }
  precondition(pageCount << 12 == layout.byteCount, "a page has no place, or two")
  precondition(placement.endFileOffset() <= fileByteCount, "a page is behind the file's end")
}

/// Looks for overlays in RAM whose pages are all the same, and checks what is found as a save does.
private func findOverlays(
  _ processors: [HyperVMSRs.Registers],
  _ layout: RAMLayout
) throws {
  let page = PageContents(prefix: [0x0f, 0x01, 0xc1, 0xc3], fill: 1)
  let document = try HyperVMSRs(processors).overlayDocument { pfn in
    layout.contains(pfn) ? page : nil
  }
  let plan = try document.validated(in: layout)
  for stack in plan.stacks {
    precondition(stack.isBaked == stack.isInRAM, "KVM writes over RAM")
  }
  let again = try? OverlayDocument(json: Array(document.encodedJSON().utf8))
  precondition(again == document, "what is found does not survive being written")
}

/// The state.json of a Cloud Hypervisor snapshot.
struct CloudHypervisorTarget: FuzzTarget {
  init(_ setting: FuzzSetting) {}

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    let state = try CloudHypervisorState(Array(UnsafeBufferPointer(start: data, count: count)))
    let layout = try CloudHypervisorLayout(state)
    check(layout.layout, layout.placement, fileByteCount: layout.fileByteCount)
    try findOverlays(state.processors, layout.layout)
  }

  var seeds: [[UInt8]] {
    var sample = CloudHypervisorBuilder([
      .init(4 << 30, sampleRAM(2)), .init(0, sampleRAM(64)), .init(64 << 12, sampleRAM(1)),
    ])
    sample.processors = [HyperVPages.registers(vp: 0), HyperVPages.registers(vp: 1)]
    sample.mappings = [(5 << 30, 4096)]
    return [Array(sample.state.utf8)]
  }
}

/// A vmstate of Firecracker. By the first byte, its checksum is made right; the second is the size of the memory
/// file in MiB.
struct FirecrackerTarget: FuzzTarget {
  init(_ setting: FuzzSetting) {}

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let isSealed = input.byte() & 1 == 1
    let fileByteCount = UInt64(input.byte()) << 20
    let bytes = input.rest()
    let state = try FirecrackerState(isSealed ? FirecrackerBuilder.sealed(bytes) : bytes)
    let layout = try FirecrackerLayout(state, fileByteCount: fileByteCount)
    let placement = RAMPlacement(flat: layout.layout)
    check(layout.layout, placement, fileByteCount: layout.fileByteCount)
    precondition(layout.fileByteCount == fileByteCount, "the memory file has another size")
    // What is stored is found again.
    let again = try FirecrackerLayout(state, stored: layout.layout)
    precondition(again.layout == layout.layout && again.fileByteCount == fileByteCount)
    try findOverlays(FirecrackerMSRs.all(in: state.bytes), layout.layout)
  }

  var seeds: [[UInt8]] {
    let regions: [FirecrackerBuilder.Region] = [.init(0, 1 << 20), .init(4 << 30, 1 << 20)]
    let all = [2, 5, 8].map { major in
      var state = FirecrackerBuilder(major, regions)
      state.processors = [HyperVPages.registers(vp: 0), HyperVPages.registers(vp: 1)]
      return state
    }
    var plugged = FirecrackerBuilder(
      8,
      [.init(0, 1 << 20), .init(512 << 30, 1 << 20, type: 1, plugged: [1, 0, 0, 1])]
    )
    plugged.hasSlots = true
    return (all + [plugged]).map { [1, 2] + $0.body } + [[0, 2] + FirecrackerBuilder.bitcode()]
  }
}
