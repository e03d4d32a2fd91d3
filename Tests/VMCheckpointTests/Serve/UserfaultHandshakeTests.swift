import Testing
import VMCheckpoint
import VMCheckpointTestSupport

@Suite struct UserfaultHandshakeTests {
  private static func read(_ text: String) throws(VMCheckpointError) -> UserfaultHandshake {
    try UserfaultHandshake(Array(text.utf8))
  }

  @Test func whatFirecrackerSends() throws {
    let text = #"""
      [{"base_host_virt_addr":139999999995904,"size":3221225472,"offset":0,"page_size":4096,"page_size_kib":4096},
       {"base_host_virt_addr":140100000874496,"size":1048576,"offset":3221225472,"page_size":4096,"page_size_kib":4096}]
      """#
    let handshake = try Self.read(text)
    #expect(throws: VMCheckpointError.self) {
      try Self.read(text.replacing("139999999995904", with: "139999999995905"))
    }
    #expect(handshake.pageByteCount == 4096)
    #expect(handshake.mappings.map(\.fileOffset) == [0, 3_221_225_472])
    let old = try Self.read(#"[{"base_host_virt_addr":4096,"size":4096,"offset":0,"later":[{}]}]"#)
    #expect(old.pageByteCount == 4096)
    let huge =
      #"[{"base_host_virt_addr":2097152,"size":2097152,"offset":0,"page_size_kib":2097152}]"#
    #expect(try Self.read(huge).pageByteCount == 2 << 20)
  }

  @Test(arguments: [
    "", "[]", "{}", "null", "[1]", "[{}]",
    #"[{"base_host_virt_addr":-4096,"size":4096,"offset":0}]"#,
    #"[{"base_host_virt_addr":4096,"size":0,"offset":0}]"#,
    #"[{"base_host_virt_addr":4096,"size":4095,"offset":0}]"#,
    #"[{"base_host_virt_addr":4096,"size":4096,"offset":1}]"#,
    #"[{"base_host_virt_addr":4096,"size":1e3,"offset":0}]"#,
    #"[{"base_host_virt_addr":4096,"size":4096,"offset":0,"page_size":1}]"#,
    #"[{"base_host_virt_addr":18446744073709547520,"size":8192,"offset":0}]"#,
    #"[{"base_host_virt_addr":0,"size":8192,"offset":18446744073709547520}]"#,
    #"[{"base_host_virt_addr":4096,"size":4096,"offset":0},{"base_host_virt_addr":2097152,"size":2097152,"offset":2097152,"page_size":2097152}]"#,
  ])
  func nonsenseIsAnError(text: String) {
    let error = #expect(throws: VMCheckpointError.self) { try Self.read(text) }
    #expect(error?.code == .invalidData)
  }

  private static func map(
    _ mappings: [(UInt64, UInt64, UInt64)],
    _ pageByteCount: Int = 4096
  ) throws -> GuestAddressMap {
    let parts = mappings.map { address, byteCount, offset in
      #"{"base_host_virt_addr":\#(address),"size":\#(byteCount),"offset":\#(offset),"#
        + #""page_size":\#(pageByteCount)}"#
    }
    let layout = try RAMLayout(regions: [
      MemoryRegion(gpa: 0, byteCount: 8 << 20, fileOffset: 0, name: "low"),
      MemoryRegion(gpa: 4 << 30, byteCount: 4 << 20, fileOffset: 8 << 20, name: "high"),
    ])
    return try GuestAddressMap(read("[\(parts.joined(separator: ","))]"), layout)
  }

  @Test func aMappingOfTwoRegionsHasTheirPages() throws {
    let map = try Self.map([(1 << 30, 12 << 20, 0)])
    #expect(map.pieces.map(\.firstPFN) == [0, 1 << 20])
    #expect(map.pieces.map(\.pageCount) == [2048, 1024])
    #expect(map.unitCount == 3072)
    #expect(map.piece(holding: (1 << 30) - 1) == nil)
    #expect(map.piece(holding: 1 << 30)?.firstPFN == 0)
    #expect(map.piece(holding: (1 << 30) + (8 << 20))?.firstPFN == 1 << 20)
    #expect(map.piece(holding: (1 << 30) + (12 << 20)) == nil)
    let huge = try Self.map([(1 << 30, 12 << 20, 0)], 2 << 20)
    #expect(huge.unitCount == 6)
    #expect(huge.units(of: (1 << 20)..<((1 << 20) + 512), in: huge.pieces[1]) == 4..<5)
  }

  @Test func mappingsThatAreNotTheSnapshotsAreErrors() {
    for mappings: [(UInt64, UInt64, UInt64)] in [
      [(1 << 30, 13 << 20, 0)], [(1 << 30, 4096, 12 << 20)],
      [(1 << 30, 8192, 0), ((1 << 30) + 4096, 4096, 65536)],
      [(1 << 30, 8192, 0), (2 << 30, 4096, 4096)],
    ] {
      let error = #expect(throws: VMCheckpointError.self) { try Self.map(mappings) }
      #expect(error?.code == .invalidData)
    }
  }

  @Test func eventsOfTheKernel() {
    func event(_ kind: UInt8, _ words: UInt64...) -> UserfaultEvent {
      var bytes = [UInt8](repeating: 0, count: 32)
      bytes[0] = kind
      for (index, word) in words.enumerated() {
        for byte in 0..<8 {
          bytes[8 + index * 8 + byte] = UInt8(truncatingIfNeeded: word >> UInt64(8 * byte))
        }
      }
      return bytes.withUnsafeBytes { UserfaultEvent($0) }
    }
    #expect(event(0x12, 0, 0x7000) == .fault(address: 0x7000))
    #expect(event(0x15, 0x1000, 0x3000) == .removed(first: 0x1000, end: 0x3000))
    #expect(event(0x16, 0x1000, 0x3000) == .removed(first: 0x1000, end: 0x3000))
    #expect(event(0x13, 7) == .forked(descriptor: 7))
    #expect(event(0) == .other)
  }
}
