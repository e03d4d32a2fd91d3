/// Finds zero pages, which are never stored.
package enum ZeroPage {
  /// Whether all 4096 bytes at `page` are zero. Ends at the first 128 bytes that are not.
  ///
  /// - Parameter page: Aligned to 64 bytes.
  @inline(__always)
  package static func isZero(_ page: UnsafeRawPointer) -> Bool {
    var offset = 0
    while offset < Page.byteCount {
      let eight =
        page.load(fromByteOffset: offset, as: SIMD8<UInt64>.self)
        | page.load(fromByteOffset: offset + 64, as: SIMD8<UInt64>.self)
      let four = eight.lowHalf | eight.highHalf
      let two = four.lowHalf | four.highHalf
      if two.x | two.y != 0 { return false }
      offset += 128
    }
    return true
  }
}
