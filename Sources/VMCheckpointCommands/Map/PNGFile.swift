/// A picture of at most 256 colours as a PNG (ISO/IEC 15948). Its data is stored, not compressed:
/// a decoder takes that as well, and the program needs no zlib.
struct PNGFile {
  var width: Int
  var height: Int
  /// Row by row, each pixel an index of `palette`.
  var pixels: [UInt8]
  var palette: [MapColour]

  var bytes: [UInt8] {
    var file: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
    // Eight bits a pixel, colours by palette, one compression, one filter method, no interlace.
    let header = Self.bigEndian(UInt32(width)) + Self.bigEndian(UInt32(height)) + [8, 3, 0, 0, 0]
    file += Self.chunk("IHDR", header)
    file += Self.chunk("PLTE", palette.flatMap { [$0.red, $0.green, $0.blue] })
    file += Self.chunk("IDAT", zlibStream)
    file += Self.chunk("IEND", [])
    return file
  }

  /// RFC 1950 around stored blocks of RFC 1951.
  private var zlibStream: [UInt8] {
    var rows: [UInt8] = []
    rows.reserveCapacity(height * (width + 1))
    for row in 0..<height {
      rows.append(0)  // Not filtered.
      rows += pixels[(row * width)..<((row + 1) * width)]
    }
    let maximum = 0xFFFF
    var stream: [UInt8] = [0x78, 0x01]
    stream.reserveCapacity(rows.count + rows.count / maximum * 5 + 16)
    var start = 0
    repeat {
      let end = min(rows.count, start + maximum)
      let length = UInt16(end - start)
      stream.append(end == rows.count ? 1 : 0)
      stream += [UInt8(length & 0xFF), UInt8(length >> 8)]
      stream += [UInt8(~length & 0xFF), UInt8(~length >> 8)]
      stream += rows[start..<end]
      start = end
    } while start < rows.count
    return stream + Self.bigEndian(Self.adler32(rows))
  }

  private static func chunk(_ type: StaticString, _ data: [UInt8]) -> [UInt8] {
    let body = type.withUTF8Buffer { Array($0) } + data
    return bigEndian(UInt32(data.count)) + body + bigEndian(crc32(body))
  }

  private static func bigEndian(_ value: UInt32) -> [UInt8] {
    [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) }
  }

  private static let crcTable: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { crc, _ in crc & 1 == 1 ? 0xEDB8_8320 ^ (crc >> 1) : crc >> 1 }
  }

  /// ISO 3309.
  static func crc32(_ bytes: [UInt8]) -> UInt32 {
    ~bytes.reduce(0xFFFF_FFFF) { crc, byte in
      crcTable[Int(UInt8(truncatingIfNeeded: crc) ^ byte)] ^ (crc >> 8)
    }
  }

  /// RFC 1950.
  static func adler32(_ bytes: [UInt8]) -> UInt32 {
    var (low, high) = (UInt32(1), UInt32(0))
    for byte in bytes {
      low = (low + UInt32(byte)) % 65521
      high = (high + low) % 65521
    }
    return high << 16 | low
  }
}
