/// Writes a small ELF core byte by byte, without the library's help.
package struct ELFBuilder {
  /// A program header and its data.
  package struct Segment {
    package var type: UInt32
    package var physicalAddress: UInt64
    package var virtualAddress: UInt64
    /// What the file has.
    package var data: [UInt8]
    package var memoryByteCount: UInt64
    package var alignment: UInt64 = 0
    /// The data is that of an earlier segment, from this offset in it on.
    package var sharedWith: (segment: Int, offset: Int)?

    package init(
      type: UInt32,
      address: UInt64 = 0,
      virtualAddress: UInt64? = nil,
      data: [UInt8],
      memoryByteCount: UInt64? = nil
    ) {
      self.type = type
      physicalAddress = address
      self.virtualAddress = virtualAddress ?? address
      self.data = data
      self.memoryByteCount = memoryByteCount ?? UInt64(data.count)
    }
  }

  package var is64Bit = true
  /// `e_machine`: 62 is x86-64, 3 i386, 183 arm64.
  package var machine: UInt16 = 62
  /// Bytes between the header and the program headers.
  package var gapByteCount = 0
  package var headerByteCountField: UInt16?
  /// Whether the count of program headers is in a section header behind the header.
  package var hasExtendedCount = false
  package var segments: [Segment] = []
  /// Bytes before the first segment's data.
  package var paddingByteCount = 0

  package init() {}

  /// Adds part of the guest's memory.
  package mutating func load(
    _ address: UInt64,
    _ data: [UInt8],
    memoryByteCount: UInt64? = nil,
    virtualAddress: UInt64? = nil
  ) {
    segments.append(
      Segment(
        type: 1,
        address: address,
        virtualAddress: virtualAddress,
        data: data,
        memoryByteCount: memoryByteCount
      )
    )
  }

  /// Adds notes.
  package mutating func notes(_ data: [UInt8], alignment: UInt64 = 0) {
    var segment = Segment(type: 4, data: data)
    segment.alignment = alignment
    segments.append(segment)
  }

  package var programHeaderByteCount: Int { is64Bit ? 56 : 32 }
  private var headerByteCount: Int { is64Bit ? 64 : 52 }
  private var sectionByteCount: Int { hasExtendedCount ? (is64Bit ? 64 : 40) : 0 }

  /// Where the program headers begin.
  package var programHeaderOffset: Int { headerByteCount + sectionByteCount + gapByteCount }

  /// Where the data begins.
  package var dataOffset: Int {
    programHeaderOffset + segments.count * programHeaderByteCount + paddingByteCount
  }

  /// Where a segment's data begins.
  package func dataOffset(of index: Int) -> Int {
    if let shared = segments[index].sharedWith {
      return dataOffset(of: shared.segment) + shared.offset
    }
    return segments[..<index].reduce(dataOffset) { $0 + ($1.sharedWith == nil ? $1.data.count : 0) }
  }

  package var bytes: [UInt8] {
    var bytes: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, is64Bit ? 2 : 1, 1, 1]
    bytes += [UInt8](repeating: 0, count: 9)
    func number(_ value: some FixedWidthInteger) {
      withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
    }
    /// A number that is as wide as the class.
    func word(_ value: UInt64) {
      if is64Bit { number(value) } else { number(UInt32(truncatingIfNeeded: value)) }
    }
    number(UInt16(4))
    number(machine)
    number(UInt32(1))
    word(0)
    word(UInt64(programHeaderOffset))
    word(hasExtendedCount ? UInt64(headerByteCount) : 0)
    number(UInt32(0))
    number(headerByteCountField ?? UInt16(headerByteCount))
    number(UInt16(programHeaderByteCount))
    number(hasExtendedCount ? UInt16(0xffff) : UInt16(segments.count))
    number(UInt16(is64Bit ? 64 : 40))
    number(hasExtendedCount ? UInt16(1) : 0)
    number(UInt16(0))
    if hasExtendedCount {
      var section = [UInt8](repeating: 0, count: sectionByteCount)
      withUnsafeBytes(of: UInt32(segments.count).littleEndian) {
        section.replaceSubrange((is64Bit ? 44 : 28)..<(is64Bit ? 48 : 32), with: $0)
      }
      bytes += section
    }
    bytes += [UInt8](repeating: 0xee, count: gapByteCount)
    for (index, segment) in segments.enumerated() {
      number(segment.type)
      if is64Bit { number(UInt32(0)) }
      word(UInt64(dataOffset(of: index)))
      word(segment.virtualAddress)
      word(segment.physicalAddress)
      word(UInt64(segment.data.count))
      word(segment.memoryByteCount)
      if !is64Bit { number(UInt32(0)) }
      word(segment.alignment)
    }
    bytes += [UInt8](repeating: 0xdd, count: paddingByteCount)
    for segment in segments where segment.sharedWith == nil { bytes += segment.data }
    return bytes
  }

  /// A note: a name without its NUL, a type, and contents.
  package static func note(
    _ name: String,
    _ type: UInt32,
    _ contents: [UInt8],
    alignment: Int = 4
  ) -> [UInt8] {
    var bytes: [UInt8] = []
    func pad() { while bytes.count % alignment != 0 { bytes.append(0) } }
    for value in [UInt32(name.utf8.count + 1), UInt32(contents.count), type] {
      withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
    }
    bytes += Array(name.utf8) + [0]
    pad()
    bytes += contents
    pad()
    return bytes
  }
}
