import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// What comes out of `/dev/fuse`, as bytes.
@Suite struct FUSERequestTests {
  private static func bytes(_ code: UInt32, node: UInt64 = 1, _ body: [UInt8]) -> [UInt8] {
    func number<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
      withUnsafeBytes(of: value) { Array($0) }
    }
    return number(UInt32(40 + body.count)) + number(code) + number(UInt64(9)) + number(node)
      + [UInt8](repeating: 0, count: 16) + body
  }

  private func parse(_ bytes: [UInt8]) -> FUSERequest? {
    bytes.withUnsafeBytes { FUSERequest($0) }
  }

  @Test("a name without an end, without bytes, or with a slash is not read")
  func names() {
    #expect(parse(Self.bytes(1, Array("ram\0".utf8)))?.operation == .lookUp(name: "ram"))
    for body in ["", "\0", "ram", "a/b\0", String(repeating: "x", count: 256) + "\0"] {
      #expect(parse(Self.bytes(1, Array(body.utf8))) == nil, "\(body.count) bytes")
    }
  }

  @Test("a body that is cut short is not read beyond its end")
  func short() {
    for code in UInt32(0)...60 {
      for count in 0...48 { _ = parse(Self.bytes(code, [UInt8](repeating: 0xff, count: count))) }
    }
    #expect(parse(Self.bytes(15, [UInt8](repeating: 0, count: 23))) == nil)
    #expect(
      parse(Self.bytes(15, [UInt8](repeating: 0, count: 24)))?.operation
        == .read(handle: 0, offset: 0, byteCount: 0)
    )
  }

  @Test("a length that is not that of the request is refused")
  func lengths() {
    var bytes = Self.bytes(3, [])
    #expect(parse(bytes) != nil)
    bytes[0] += 1
    #expect(parse(bytes) == nil)
    #expect(parse(Array(bytes.prefix(39))) == nil)
    #expect(parse([]) == nil)
  }

  /// A working set is recorded of what is opened for writing, as VMs do.
  @Test("a file that is opened for reading is not taken for a VM's")
  func openMode() {
    for (flags, isForWriting) in [(UInt8(0), false), (1, true), (2, true)] {
      #expect(
        parse(Self.bytes(14, [flags, 0x80, 0, 0, 0, 0, 0, 0]))?.operation
          == .open(forWriting: isForWriting)
      )
    }
    #expect(parse(Self.bytes(14, []))?.operation == .open(forWriting: false))
  }

  @Test("a request that is handed out again is the same one")
  func resent() {
    var bytes = Self.bytes(14, [0, 0, 0, 0, 0, 0, 0, 0])
    let first = parse(bytes)
    bytes[15] |= 0x80
    let second = parse(bytes)
    #expect(first?.unique != second?.unique)
    #expect(first?.lasting == second?.lasting)
  }
}
