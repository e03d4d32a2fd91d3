import VMCheckpointTestSupport

@testable import VMCheckpoint
@testable import VMCheckpointFormats

/// What a QEMU that is migrated to says, in pieces of any size. The first byte says whether a bitmap is waited for.
struct ReturnPathTarget: FuzzTarget {
  init(_ setting: FuzzSetting) {}

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let pageCount = input.choice(of: 4) * 100
    let pieceByteCount = 1 + input.choice(of: 64)
    var rest = input.rest()[...]
    var path = QEMUReturnPath()
    if pageCount > 0 { path.expectBitmap(pageCount: UInt64(pageCount)) }
    while !rest.isEmpty {
      path.feed(rest.prefix(pieceByteCount))
      rest = rest.dropFirst(pieceByteCount)
      while let message = try path.next() {
        switch message {
        case .request(let block, _, _): precondition((1...255).contains(block.count))
        case .received(_, let bitmap): precondition(bitmap.count * 8 >= pageCount)
        case .end, .pong, .resumed: break
        }
      }
    }
  }

  var seeds: [[UInt8]] {
    let name = Array("pc.ram".utf8)
    let request: [UInt8] = [0, 3, 0, 19] + [UInt8](repeating: 0, count: 10) + [16, 0, 6] + name
    let bitmap: [UInt8] =
      [0, 5, 0, 7, 6] + name + [0, 0, 0, 0, 0, 0, 0, 16] + [UInt8](repeating: 0xff, count: 16)
      + [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]
    let again: [UInt8] = [0, 4, 0, 12] + [UInt8](repeating: 0, count: 10) + [16, 0]
    let words: [UInt8] = [0, 2, 0, 4, 0, 0, 0, 2, 0, 1, 0, 4, 0, 0, 0, 0, 0, 6, 0, 4, 0, 0, 0, 1]
    return [[0, 63] + request + again + words, [1, 5] + bitmap + words]
  }
}
