import VMCheckpoint

/// An entry of an ELF core's program header table: where some of the guest's memory, or its notes, are.
///
/// Source: the System V gABI, chapter 5, "Program Header".
struct ELFProgramHeader: Hashable {
  /// `p_type`.
  enum Kind {
    static let null: UInt32 = 0
    static let load: UInt32 = 1
    static let note: UInt32 = 4
  }

  var type: UInt32
  /// `p_flags`: 4 readable, 2 writable, 1 executable. Nothing here depends on it.
  var flags: UInt32
  var fileOffset: UInt64
  var virtualAddress: UInt64
  /// The guest-physical address, in a core of a guest.
  var physicalAddress: UInt64
  var fileByteCount: UInt64
  var memoryByteCount: UInt64
  var alignment: UInt64

  init(
    type: UInt32,
    flags: UInt32,
    fileOffset: UInt64,
    address: UInt64,
    byteCount: UInt64,
    memoryByteCount: UInt64? = nil,
    alignment: UInt64
  ) {
    self.type = type
    self.flags = flags
    self.fileOffset = fileOffset
    virtualAddress = address
    physicalAddress = address
    fileByteCount = byteCount
    self.memoryByteCount = memoryByteCount ?? byteCount
    self.alignment = alignment
  }

  /// Reads the entry at `offset` of part of a table.
  ///
  /// - Precondition: The bytes have all of it.
  init(_ bytes: [UInt8], at offset: Int, width: ELFHeader.Width) {
    func word(_ place: Int) -> UInt32 { bytes.littleEndian(at: offset + place, as: UInt32.self) }
    func long(_ place: Int) -> UInt64 { bytes.littleEndian(at: offset + place, as: UInt64.self) }
    type = word(0)
    switch width {
    case .bits64:
      flags = word(4)
      fileOffset = long(8)
      virtualAddress = long(16)
      physicalAddress = long(24)
      fileByteCount = long(32)
      memoryByteCount = long(40)
      alignment = long(48)
    case .bits32:
      fileOffset = UInt64(word(4))
      virtualAddress = UInt64(word(8))
      physicalAddress = UInt64(word(12))
      fileByteCount = UInt64(word(16))
      memoryByteCount = UInt64(word(20))
      flags = word(24)
      alignment = UInt64(word(28))
    }
  }

  /// The entry in the 64-bit class.
  func append(to bytes: inout [UInt8]) {
    bytes.appendLittleEndian(type)
    bytes.appendLittleEndian(flags)
    for field in [
      fileOffset, virtualAddress, physicalAddress, fileByteCount, memoryByteCount, alignment,
    ] { bytes.appendLittleEndian(field) }
  }
}
