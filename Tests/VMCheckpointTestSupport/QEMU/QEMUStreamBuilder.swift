/// Writes a small QEMU migration stream byte by byte, without the library's help.
package struct QEMUStreamBuilder {
  package private(set) var bytes: [UInt8] = []
  private var lastBlock: String?

  package static let pageByteCount = 4096
  package static let sectionID: UInt32 = 2

  package init() {}

  package mutating func raw(_ more: [UInt8]) { bytes += more }

  package mutating func number(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.bigEndian) { bytes += $0 }
  }

  package mutating func string(_ text: String) {
    bytes.append(UInt8(text.utf8.count))
    bytes += text.utf8
  }

  /// The header, with a list of capabilities if there are any.
  package mutating func header(machine: String = "pc-q35-7.2", capabilities: [String] = []) {
    bytes += Array("QEVM".utf8)
    number(UInt32(3))
    bytes.append(7)
    number(UInt32(machine.utf8.count))
    bytes += machine.utf8
    guard !capabilities.isEmpty else { return }
    bytes.append(5)
    string("configuration/capabilities")
    number(UInt32(1))
    number(UInt32(capabilities.count))
    for capability in capabilities { string(capability) }
  }

  /// The beginning of the RAM section, up to its footer.
  package mutating func ramStart(
    _ blocks: [(name: String, pageCount: Int)],
    addresses: Bool = false,
    section: String = "ram",
    version: UInt32 = 4
  ) {
    bytes.append(1)
    number(Self.sectionID)
    string(section)
    number(UInt32(0))
    number(version)
    let total = blocks.reduce(0) { $0 + $1.pageCount } * Self.pageByteCount
    number(UInt64(total) | 4)
    for block in blocks {
      string(block.name)
      number(UInt64(block.pageCount * Self.pageByteCount))
      if addresses { number(UInt64(0)) }
    }
    ramEnd()
  }

  /// The beginning of a RAM section with the capability `mapped-ram`, all of RAM in it.
  ///
  /// - Parameters:
  ///   - fileOffset: Where in its file the stream begins: offsets count from the file's beginning.
  ///   - pages: A block's pages by their indices; the others have no bit.
  ///   - change: Changes the numbers of a block's header: version, page size, bitmap's and pages' offset.
  package mutating func mappedRAM(
    _ blocks: [(name: String, pageCount: Int, pages: [Int: [UInt8]])],
    fileOffset: Int = 0,
    change: (Int, inout [UInt64]) -> Void = { _, _ in }
  ) {
    bytes.append(1)
    number(Self.sectionID)
    string("ram")
    number(UInt32(0))
    number(UInt32(4))
    let total = blocks.reduce(0) { $0 + $1.pageCount } * Self.pageByteCount
    number(UInt64(total) | 4)
    for (index, block) in blocks.enumerated() {
      string(block.name)
      number(UInt64(block.pageCount * Self.pageByteCount))
      let bitmapOffset = fileOffset + bytes.count + 28
      let bitmapByteCount = (block.pageCount + 63) / 64 * 8
      let pagesOffset = (bitmapOffset + bitmapByteCount + 0xfffff) & ~0xfffff
      var numbers = [1, UInt64(Self.pageByteCount), UInt64(bitmapOffset), UInt64(pagesOffset)]
      change(index, &numbers)
      number(UInt32(numbers[0]))
      for value in numbers[1...] { number(value) }
      var bitmap = [UInt8](repeating: 0, count: bitmapByteCount)
      var room = [UInt8](repeating: 0, count: block.pageCount * Self.pageByteCount)
      for (page, contents) in block.pages {
        bitmap[page / 8] |= 1 << UInt8(page % 8)
        let start = page * Self.pageByteCount
        room.replaceSubrange(start..<(start + Self.pageByteCount), with: contents)
      }
      bytes += bitmap
      bytes += [UInt8](repeating: 0, count: pagesOffset - fileOffset - bytes.count)
      bytes += room
    }
    ramEnd()
  }

  /// Begins a part (2) or the end (3) of the RAM section.
  package mutating func ramPart(_ type: UInt8) {
    bytes.append(type)
    number(Self.sectionID)
  }

  /// The end mark and the footer of a part of the RAM section.
  package mutating func ramEnd() {
    number(UInt64(0x10))
    bytes.append(0x7e)
    number(Self.sectionID)
  }

  /// A page, by its own record or, when all its bytes are equal and `compact`, by its fill byte.
  package mutating func page(
    _ block: String,
    _ index: Int,
    _ contents: [UInt8],
    compact: Bool = true
  ) {
    let isUniform = compact && contents.allSatisfy { $0 == contents[0] }
    record(block, index, flag: isUniform ? 0x02 : 0x08)
    bytes += isUniform ? [contents[0]] : contents
  }

  /// A page of zeros, by its fill byte.
  package mutating func zeroPage(_ block: String, _ index: Int) {
    record(block, index, flag: 0x02)
    bytes.append(0)
  }

  private mutating func record(_ block: String, _ index: Int, flag: UInt64) {
    let isSame = block == lastBlock
    number(UInt64(index * Self.pageByteCount) | flag | (isSame ? 0x20 : 0))
    if !isSame { string(block) }
    lastBlock = block
  }

  /// A device's section with `state`, the end mark and the description.
  package mutating func devices(_ state: [UInt8] = [1, 2, 3, 4], name: String = "timer") {
    bytes.append(4)
    number(UInt32(9))
    string("timer")
    number(UInt32(0))
    number(UInt32(2))
    bytes += state
    bytes.append(0x7e)
    number(UInt32(9))
    bytes.append(0)
    let description = #"{"page_size": 4096, "devices": [{"name": "\#(name)"}]}"#
    bytes.append(6)
    number(UInt32(description.utf8.count))
    bytes += description.utf8
  }
}
