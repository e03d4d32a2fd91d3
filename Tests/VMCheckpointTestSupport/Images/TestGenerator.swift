import VMCheckpoint

/// Numbers that a seed determines.
package typealias TestGenerator = OverlayTestGenerator

extension TestGenerator {
  /// A number in `range`.
  package mutating func int(_ range: ClosedRange<Int>) -> Int { .random(in: range, using: &self) }

  /// A page that no compressor makes smaller.
  package mutating func incompressiblePage() -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: Page.byteCount) { buffer, count in
      buffer.withMemoryRebound(to: UInt64.self) { words in
        for index in words.indices { words[index] = next() }
      }
      count = Page.byteCount
    }
  }

  /// A page with a few random bytes and a pattern, as guests have many.
  package mutating func compressiblePage() -> [UInt8] {
    var page = [UInt8](repeating: UInt8(truncatingIfNeeded: next()), count: Page.byteCount)
    for _ in 0..<int(1...40) {
      page[int(0...(Page.byteCount - 1))] = UInt8(truncatingIfNeeded: next())
    }
    page[0] |= 1
    return page
  }

  /// A page of a runtime's heap: words that are addresses near each other, and small numbers.
  package mutating func pointerPage() -> [UInt8] {
    let base = 0x7f00_0000_0000 | UInt64(int(0...0xffff)) << 20
    return (0..<(Page.byteCount / 8)).flatMap { _ in
      let word = oneIn(32) ? UInt64(int(0...300)) : base | UInt64(int(0...0xfff)) << 4
      return withUnsafeBytes(of: word.littleEndian, Array.init)
    }
  }

  /// A page of any sort, zero ones included; every fourth comes from `pool`, which grows.
  package mutating func page(pool: inout [[UInt8]]) -> [UInt8] {
    if oneIn(4), let known = pool.randomElement(using: &self) { return known }
    let page: [UInt8]
    switch int(0...4) {
    case 0: page = [UInt8](repeating: 0, count: Page.byteCount)
    case 1: page = incompressiblePage()
    case 2: page = pointerPage()
    default: page = compressiblePage()
    }
    pool.append(page)
    return page
  }
}
