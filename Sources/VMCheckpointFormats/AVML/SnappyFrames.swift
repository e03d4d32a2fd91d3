import VMCheckpoint

/// Data in Snappy's framing format: chunks of up to 64 KiB, each with its checksum.
///
///     a chunk: u8 type, u24 length, contents
///     0xff       stream identifier: `sNaPpY`
///     0x00       u32 masked CRC-32C of the data, a block of Snappy
///     0x01       u32 masked CRC-32C of the data, the data
///     0x02-0x7f  reserved, not to be skipped
///     0x80-0xfe  to be skipped
///
/// Source: google/snappy `framing_format.txt`, 2015-08-12.
final class SnappyFrames: @unchecked Sendable {
  private static let maximumDataByteCount = 64 << 10
  /// What Snappy makes of 64 KiB that cannot be compressed (`MaxCompressedLength`).
  private static let maximumBlockByteCount = 32 + maximumDataByteCount + maximumDataByteCount / 6
  private static let identifier = Array("sNaPpY".utf8)

  private let input: DumpInput
  private let snappy: SnappyBlocks
  /// Data of a chunk that is still to be taken.
  private let buffer: UnsafeMutableRawBufferPointer
  private var start = 0
  private var end = 0
  private var hasIdentifier = false

  /// - Throws: ``VMCheckpointError``: `unavailable` when libsnappy is missing, `outOfResources`.
  init(_ input: DumpInput) throws(VMCheckpointError) {
    self.input = input
    snappy = try SnappyBlocks()
    buffer = try LargeMemory.allocate(byteCount: Self.maximumDataByteCount)
  }

  deinit { LargeMemory.free(buffer) }

  /// Begins with another stream.
  func restart() {
    hasIdentifier = false
    (start, end) = (0, 0)
  }

  /// Whether data was decompressed that nobody has taken.
  var hasRest: Bool { start < end }

  /// Fills `room` with the next data.
  ///
  /// - Parameter place: What the data is of, for messages, as in "range 1 at GPA 0x0".
  /// - Throws: ``VMCheckpointError``, whose message goes on after the file's name when its code is
  ///   `invalidData`.
  func read(
    into room: UnsafeMutableRawBufferPointer,
    place: String
  ) throws(VMCheckpointError) {
    var done = 0
    while done < room.count {
      if start == end {
        // A whole chunk goes to its place without a copy.
        done += try readChunk(UnsafeMutableRawBufferPointer(rebasing: room[done...]), place)
        continue
      }
      let count = min(end - start, room.count - done)
      UnsafeMutableRawBufferPointer(rebasing: room[done..<(done + count)])
        .copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[start..<(start + count)]))
      start += count
      done += count
    }
  }

  /// Reads one chunk: into `room` if its data fits there, and else into the buffer.
  ///
  /// - Returns: How much came into `room`.
  private func readChunk(
    _ room: UnsafeMutableRawBufferPointer,
    _ place: String
  ) throws(VMCheckpointError) -> Int {
    let offset = input.offset
    let header = try input.read(byteCount: 4, place: "in \(place)")
    let byteCount = Int(header[1]) | Int(header[2]) << 8 | Int(header[3]) << 16
    func damaged(_ problem: String) -> VMCheckpointError {
      .invalidData("is damaged in \(place): the Snappy chunk at offset \(offset) \(problem)")
    }
    guard hasIdentifier || header[0] == 0xff else {
      throw damaged("comes before the stream's identifier")
    }
    switch header[0] {
    case 0xff:
      guard byteCount == Self.identifier.count,
        try input.read(byteCount: byteCount, place: "in \(place)") == Self.identifier
      else { throw damaged("is not an identifier") }
      hasIdentifier = true
      return 0
    case 0x80...0xfe:
      try input.skip(byteCount: UInt64(byteCount), place: "in \(place)")
      return 0
    case 0x00, 0x01:
      let isCompressed = header[0] == 0
      let maximum = isCompressed ? Self.maximumBlockByteCount : Self.maximumDataByteCount
      guard (4...(4 + maximum)).contains(byteCount) else { throw damaged("has \(byteCount) bytes") }
      return try input.withBytes(count: byteCount, place: "in \(place)") {
        bytes throws(VMCheckpointError) in
        let contents = UnsafeRawBufferPointer(rebasing: bytes[4...])
        let dataByteCount = isCompressed ? snappy.byteCount(of: contents) : contents.count
        guard let dataByteCount, dataByteCount <= Self.maximumDataByteCount else {
          throw damaged("holds more than \(Self.maximumDataByteCount) bytes of data, or is damaged")
        }
        let fits = dataByteCount <= room.count
        let target = UnsafeMutableRawBufferPointer(
          rebasing: (fits ? room : buffer)[..<dataByteCount]
        )
        if isCompressed {
          guard snappy.decompress(contents, into: target) else {
            throw damaged("cannot be decompressed")
          }
        } else {
          target.copyMemory(from: contents)
        }
        let crc = CRC32C.checksum(of: UnsafeRawBufferPointer(target))
        let masked = (crc >> 15 | crc << 17) &+ 0xa282_ead8
        let stated = UInt32(littleEndian: bytes.loadUnaligned(as: UInt32.self))
        guard stated == masked else { throw damaged("has a wrong CRC") }
        if fits { return dataByteCount }
        (start, end) = (0, dataByteCount)
        return 0
      }
    default: throw damaged("is of the unknown type \(header[0])")
    }
  }
}
