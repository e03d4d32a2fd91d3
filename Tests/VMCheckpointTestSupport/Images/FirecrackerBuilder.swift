import Glibc

/// Writes a vmstate file of Firecracker from its documented layout, without the library's help.
package struct FirecrackerBuilder {
  package struct Region {
    package var gpa: UInt64
    package var size: UInt64
    package var offset: UInt64?
    package var type: UInt32 = 0
    package var plugged: [UInt8] = [1]

    package init(_ gpa: UInt64, _ size: UInt64, type: UInt32 = 0, plugged: [UInt8] = [1]) {
      self.gpa = gpa
      self.size = size
      self.type = type
      self.plugged = plugged
    }
  }

  package var magic: UInt64 = 0x0710_1984_8664_0000
  package var version: String
  package var mebibytes: UInt64
  package var regions: [Region]
  /// Whether regions say where they are in the memory file, as up to Firecracker 1.10.
  package var hasOffsets: Bool
  /// Whether regions have a type and slots, as in Firecracker 1.14.
  package var hasSlots = false
  package var bootArguments: String? = "console=ttyS0 reboot=k"
  package var capabilities = ["+171"]
  package var processors: [[(index: UInt32, data: UInt64)]] = []
  /// Instead of the number of regions.
  package var regionCount: UInt64?

  /// A guest of version `major`, whose regions make up its memory.
  package init(_ major: Int, _ regions: [Region]) {
    version = "\(major).0.0"
    self.regions = regions
    mebibytes = regions.filter { $0.type == 0 }.reduce(0) { $0 + $1.size } >> 20
    hasOffsets = major <= 4
  }

  private var major: Int { Int(version.prefix { $0 != "." }) ?? 0 }

  /// Up to where memory's description begins, and with it.
  package var head: [UInt8] {
    var bytes = Self.number(magic) + Self.text(version) + Self.number(mebibytes)
    bytes += [0] + Self.number(UInt32(4)) + Self.text("/srv/vmlinux") + [0]
    bytes += bootArguments.map { [1] + Self.text($0) } ?? [0]
    bytes += Self.number(UInt32(0))
    if major >= 6 {
      bytes += Self.number(UInt64(capabilities.count)) + capabilities.flatMap(Self.text)
    }
    return bytes
  }

  /// All but the checksum.
  package var body: [UInt8] {
    var bytes = head + Self.number(regionCount ?? UInt64(regions.count))
    var offset: UInt64 = 0
    for region in regions {
      bytes += Self.number(region.gpa) + Self.number(region.size)
      if hasOffsets { bytes += Self.number(region.offset ?? offset) }
      if hasSlots {
        bytes +=
          Self.number(region.type) + Self.number(UInt64(region.plugged.count)) + region.plugged
      }
      offset &+= region.size
    }
    // The interrupt controllers and the clock, each a byte array.
    for byteCount in [112, 48, 520, 520, 520] {
      bytes += Self.number(UInt64(byteCount)) + [UInt8](repeating: 0, count: byteCount)
    }
    bytes += Self.number(UInt64(processors.count))
    for registers in processors {
      // CPUID, in one entry of 40 bytes.
      bytes += Self.number(UInt64(8)) + Self.number(UInt32(1)) + Self.number(UInt32(0))
      bytes += Self.number(UInt64(1)) + Self.number(UInt64(40)) + [UInt8](repeating: 7, count: 40)
      // The MSRs in two tables.
      let half = registers.count / 2
      bytes += Self.number(UInt64(2))
      for table in [registers[..<half], registers[half...]] {
        bytes += Self.number(UInt64(8)) + Self.number(UInt32(table.count)) + Self.number(UInt32(0))
        bytes += Self.number(UInt64(table.count))
        for register in table {
          bytes += Self.number(UInt64(16)) + Self.number(register.index) + Self.number(UInt32(0))
          bytes += Self.number(register.data)
        }
      }
      bytes += Self.number(UInt64(1024)) + [UInt8](repeating: 1, count: 1024)
    }
    return bytes
  }

  package var bytes: [UInt8] { Self.sealed(body) }

  /// Something that bitcode might have written: it has the magic number somewhere.
  package static func bitcode(magic: UInt64? = 0x0710_1984_8664_0000) -> [UInt8] {
    sealed(
      [9, 3, 0, 0, 255] + (magic.map { number($0) } ?? []) + [UInt8](repeating: 5, count: 300)
    )
  }

  /// With the checksum at its end.
  package static func sealed(_ bytes: [UInt8]) -> [UInt8] { bytes + number(checksum(bytes)) }

  /// CRC-64/Jones, bit by bit.
  package static func checksum(_ bytes: [UInt8]) -> UInt64 {
    var crc: UInt64 = 0
    for byte in bytes {
      crc ^= UInt64(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x95ac_9329_ac4b_c9b5 : crc >> 1 }
    }
    return crc
  }

  private static func text(_ text: String) -> [UInt8] {
    number(UInt64(text.utf8.count)) + Array(text.utf8)
  }

  private static func number(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }
}

/// A memory file of Firecracker. What is not a page of `pages` is a hole.
package func writeMemoryFile(
  _ path: String,
  byteCount: Int,
  pages: [Int: [UInt8]]
) throws {
  try makeHole(path, byteCount: byteCount)
  for (index, page) in pages.sorted(by: { $0.key < $1.key }) {
    try patchFile(path, at: index << 12, page)
  }
}
