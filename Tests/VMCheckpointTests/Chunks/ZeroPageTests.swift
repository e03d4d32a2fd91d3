import Testing
import VMCheckpoint
import VMCheckpointKernels
import VMCheckpointTestSupport

@Suite struct ZeroPageTests {
  /// A page that is taken for zero is lost.
  @Test func noByteOfAPageIsOverlooked() {
    let page = UnsafeMutableRawBufferPointer.allocate(
      byteCount: Page.byteCount,
      alignment: Page.byteCount
    )
    defer { page.deallocate() }
    page.initializeMemory(as: UInt8.self, repeating: 0)
    #expect(KernelProbe.zeroPageCount(in: UnsafeRawBufferPointer(page)) == 1)
    var overlooked: [Int] = []
    for position in page.indices {
      for value: UInt8 in [1, 0x80, 0xFF] {
        page[position] = value
        if KernelProbe.zeroPageCount(in: UnsafeRawBufferPointer(page)) != 0 {
          overlooked.append(position)
        }
      }
      page[position] = 0
    }
    #expect(overlooked.isEmpty)
  }

  @Test(arguments: RAMPattern.allCases)
  func scansFindWhatASimpleOneFinds(pattern: RAMPattern) throws {
    var generator = TestGenerator(seed: 40)
    var pool: [[UInt8]] = []
    let image = pattern.image(pageCount: 513, pool: &pool, using: &generator)
    let ram = UnsafeMutableRawBufferPointer.allocate(
      byteCount: image.count,
      alignment: Page.byteCount
    )
    defer { ram.deallocate() }
    ram.copyBytes(from: image)
    let zeroPages = stride(from: 0, to: image.count, by: Page.byteCount).filter { start in
      image[start..<(start + Page.byteCount)].allSatisfy { $0 == 0 }
    }
    #expect(KernelProbe.zeroPageCount(in: UnsafeRawBufferPointer(ram)) == zeroPages.count)
    let probe = try KernelProbe(ram: UnsafeRawBufferPointer(ram))
    #expect(probe.dataPageIndices.count == 513 - zeroPages.count)
    #expect(probe.packAndCompress() == probe.storedByteCount)
    try probe.decode()
  }
}
