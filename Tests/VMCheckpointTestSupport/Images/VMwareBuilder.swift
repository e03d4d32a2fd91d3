/// Writes a VM's state of VMware byte by byte, without the library's help.
package struct VMwareBuilder {
  /// A run of RAM, in pages.
  package struct Region {
    package var pfn: UInt32
    package var pageIndex: UInt32
    package var pageCount: UInt32

    package init(pfn: UInt32, pageIndex: UInt32, pageCount: UInt32) {
      self.pfn = pfn
      self.pageIndex = pageIndex
      self.pageCount = pageCount
    }
  }

  package var magic: [UInt8] = [0xd2, 0xbe, 0xd2, 0xbe]
  package var regions: [Region] = []
  package var regionsCountField: UInt32?
  package var groupCountField: UInt32?
  package var memoryName = "memory"
  package var memoryOffsetField: UInt64?
  /// How many bytes the group has by the list of groups.
  package var memoryByteCountField: UInt64 = 0
  /// RAM in the state itself.
  package var ram: [UInt8]?
  package var isRAMCompressed = false
  /// Tags before those of RAM.
  package var otherTags: [UInt8] = []
  package var hasEnd = true

  package init() {}

  /// A tag with a value of four bytes.
  package static func tag(_ name: String, _ indices: [UInt32], _ value: UInt32) -> [UInt8] {
    [UInt8(indices.count << 6 | 4), UInt8(name.utf8.count)] + Array(name.utf8)
      + (indices + [value]).flatMap(bytes)
  }

  /// A block.
  package static func block(
    _ name: String,
    _ contents: [UInt8],
    padding: Int = 0,
    isCompressed: Bool = false,
    byteCount: UInt64? = nil
  ) -> [UInt8] {
    let count = byteCount ?? UInt64(contents.count)
    return [isCompressed ? 62 : 63, UInt8(name.utf8.count)] + Array(name.utf8)
      + (bytes(count) + bytes(count) + bytes(UInt16(padding)))
      + [UInt8](repeating: 0xdd, count: padding) + contents
  }

  private static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }

  /// Where the tags of the group `memory` are.
  package static let memoryOffset = 12 + 2 * 80 + 4

  package var bytes: [UInt8] {
    func group(_ name: String, _ offset: UInt64, _ byteCount: UInt64 = 0) -> [UInt8] {
      Array(name.utf8) + [UInt8](repeating: 0, count: 64 - name.utf8.count) + Self.bytes(offset)
        + Self.bytes(byteCount)
    }
    var bytes = magic + Self.bytes(UInt32(8)) + Self.bytes(groupCountField ?? 2)
    bytes += group("Checkpoint", UInt64(Self.memoryOffset - 4))
    bytes += group(memoryName, memoryOffsetField ?? UInt64(Self.memoryOffset), memoryByteCountField)
    bytes += [0, 0, 0, 0]
    bytes += otherTags
    if !regions.isEmpty || regionsCountField != nil {
      bytes += Self.tag("regionsCount", [], regionsCountField ?? UInt32(regions.count))
    }
    for (index, region) in regions.enumerated() {
      bytes += Self.tag("regionPageNum", [UInt32(index)], region.pageIndex)
      bytes += Self.tag("regionPPN", [UInt32(index)], region.pfn)
      bytes += Self.tag("regionSize", [UInt32(index)], region.pageCount)
    }
    if let ram { bytes += Self.block("Memory", ram, padding: 37, isCompressed: isRAMCompressed) }
    return bytes + (hasEnd ? [0, 0] : [])
  }
}
