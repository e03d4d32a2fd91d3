/// Writes a capture of LiME or AVML byte by byte, without the library's help.
package struct RangeCaptureBuilder {
  /// A range of physical memory.
  package struct Block {
    package var gpa: UInt64
    package var data: [UInt8]
    /// Whether the range is AVML's, in frames of Snappy.
    package var isCompressed = false
    package var magic: String?
    package var version: UInt32?
    /// The address of the last byte, where it is not that of the data.
    package var last: UInt64?
    /// What stands for the frames.
    package var frames: [UInt8]?
    /// The number behind the frames.
    package var length: UInt64?
  }

  package var blocks: [Block] = []

  package init() {}

  /// Adds a range as LiME has it.
  package mutating func plain(_ gpa: UInt64, _ data: [UInt8]) {
    blocks.append(Block(gpa: gpa, data: data))
  }

  /// Adds a range as AVML has it.
  package mutating func compressed(_ gpa: UInt64, _ data: [UInt8]) {
    blocks.append(Block(gpa: gpa, data: data, isCompressed: true))
  }

  package var bytes: [UInt8] {
    var bytes: [UInt8] = []
    func number(_ value: some FixedWidthInteger) {
      withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
    }
    for block in blocks {
      bytes += Array((block.magic ?? (block.isCompressed ? "AVML" : "EMiL")).utf8)
      number(block.version ?? (block.isCompressed ? 2 : 1))
      number(block.gpa)
      number(block.last ?? (block.gpa &+ UInt64(block.data.count) &- 1))
      number(UInt64(0))
      guard block.isCompressed else {
        bytes += block.data
        continue
      }
      let frames = block.frames ?? SnappyModel.frames(block.data)
      bytes += frames
      number(block.length ?? UInt64(frames.count))
    }
    return bytes
  }
}

/// Snappy as slowly as it is plain: literals, and copies of one byte's distance for runs.
package enum SnappyModel {
  package static let identifier: [UInt8] = [0xff, 6, 0, 0] + Array("sNaPpY".utf8)

  /// The framing format: an identifier, then a chunk for each 64 KiB.
  package static func frames(_ data: [UInt8]) -> [UInt8] {
    var bytes = identifier
    for start in stride(from: 0, to: data.count, by: 65536) {
      let piece = Array(data[start..<min(data.count, start + 65536)])
      let compressed = compress(piece)
      bytes +=
        compressed.count < piece.count
        ? chunk(0, checksum(piece) + compressed) : chunk(1, checksum(piece) + piece)
    }
    return bytes
  }

  /// A chunk of the framing format.
  package static func chunk(_ type: UInt8, _ contents: [UInt8]) -> [UInt8] {
    let count = contents.count
    return [type, UInt8(count & 0xff), UInt8(count >> 8 & 0xff), UInt8(count >> 16)] + contents
  }

  /// The masked CRC-32C of a chunk's data.
  package static func checksum(_ data: [UInt8]) -> [UInt8] {
    var crc: UInt32 = 0xffff_ffff
    for byte in data { crc = crc >> 8 ^ table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)] }
    crc = ~crc
    let masked = (crc >> 15 | crc << 17) &+ 0xa282_ead8
    return (0..<4).map { UInt8(truncatingIfNeeded: masked >> (8 * $0)) }
  }

  private static let table: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { crc, _ in crc >> 1 ^ (crc & 1 == 1 ? 0x82f6_3b78 : 0) }
  }

  /// One block: its length, then literals and runs.
  package static func compress(_ data: [UInt8]) -> [UInt8] {
    var bytes = varint(data.count)
    var literal: [UInt8] = []
    func flush() {
      guard !literal.isEmpty else { return }
      bytes += [61 << 2, UInt8((literal.count - 1) & 0xff), UInt8((literal.count - 1) >> 8)]
      bytes += literal
      literal = []
    }
    var index = 0
    while index < data.count {
      var run = 1
      while index + run < data.count, run < 65, data[index + run] == data[index] { run += 1 }
      literal.append(data[index])
      if run >= 8 {
        flush()
        // A copy of up to 64 bytes from one byte before.
        bytes += [UInt8((run - 2) << 2 | 2), 1, 0]
        index += run
      } else {
        index += 1
      }
    }
    flush()
    return bytes
  }

  /// A number in groups of seven bits.
  package static func varint(_ value: Int) -> [UInt8] {
    var rest = value
    var bytes: [UInt8] = []
    while rest >= 128 {
      bytes.append(UInt8(rest & 127 | 128))
      rest >>= 7
    }
    return bytes + [UInt8(rest)]
  }
}
