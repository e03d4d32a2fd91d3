import VMCheckpoint

/// The header of an ELF core: what kind of machine it is of, and where its tables are.
///
/// Source: the System V gABI, chapter 4, "ELF Header". `e_ehsize` is not looked at: QEMU from 7.2 on writes
/// 8 there. Neither is the version in `e_ident`: VirtualBox may write 0.
struct ELFHeader: Hashable {
  /// `EI_CLASS`.
  enum Width: UInt8 {
    case bits32 = 1
    case bits64 = 2

    var headerByteCount: Int { self == .bits64 ? 64 : 52 }
    var programHeaderByteCount: Int { self == .bits64 ? 56 : 32 }
    var sectionHeaderByteCount: Int { self == .bits64 ? 64 : 40 }
  }

  /// `e_machine`.
  enum Machine: UInt16 {
    case i386 = 3
    case x86_64 = 62
    case arm64 = 183

    /// Whether the architecture has its firmware right below 4 GiB.
    var isX86: Bool { self != .arm64 }
  }

  static let magic: [UInt8] = [0x7f, 0x45, 0x4c, 0x46]
  /// `ET_CORE`.
  static let coreType: UInt16 = 4
  /// `PN_XNUM` in `e_phnum`: the count is in `sh_info` of the first section header.
  static let extendedCount: UInt16 = 0xffff

  var width: Width
  var machine: Machine
  var programHeaderOffset: UInt64
  /// From one program header to the next; `e_phentsize`.
  var programHeaderStride: UInt16
  /// `e_phnum`, which may be ``extendedCount``.
  var programHeaderCount: UInt16
  var sectionHeaderOffset: UInt64
  var sectionHeaderCount: UInt16

  /// Reads the header from the first ``Width/headerByteCount`` bytes or more of a file.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the file's name.
  init(_ bytes: [UInt8]) throws(VMCheckpointError) {
    guard bytes.starts(with: Self.magic), bytes.count >= 20 else {
      throw .invalidData("does not begin like an ELF file")
    }
    guard let width = Width(rawValue: bytes[4]) else {
      throw .invalidData("is of the unknown ELF class \(bytes[4])")
    }
    guard bytes[5] == 1 else {
      throw .invalidData(
        bytes[5] == 2 ? "is of a big-endian machine" : "has the unknown byte order \(bytes[5])",
        hint: "only cores of x86-64, i386 and little-endian arm64 are read"
      )
    }
    guard bytes.count >= width.headerByteCount else { throw .cutShort("in its header") }
    let type = bytes.littleEndian(at: 16, as: UInt16.self)
    guard type == Self.coreType else {
      throw .invalidData("is an ELF file of type \(type), and not a core")
    }
    let machineNumber = bytes.littleEndian(at: 18, as: UInt16.self)
    guard let machine = Machine(rawValue: machineNumber) else {
      throw .invalidData(
        "is of the machine \(machineNumber)",
        hint: "only cores of x86-64, i386 and little-endian arm64 are read"
      )
    }
    self.width = width
    self.machine = machine
    switch width {
    case .bits64:
      programHeaderOffset = bytes.littleEndian(at: 32, as: UInt64.self)
      sectionHeaderOffset = bytes.littleEndian(at: 40, as: UInt64.self)
    case .bits32:
      programHeaderOffset = UInt64(bytes.littleEndian(at: 28, as: UInt32.self))
      sectionHeaderOffset = UInt64(bytes.littleEndian(at: 32, as: UInt32.self))
    }
    // From e_ehsize on, both classes have the same fields.
    let counts = width == .bits64 ? 52 : 40
    programHeaderStride = bytes.littleEndian(at: counts + 2, as: UInt16.self)
    programHeaderCount = bytes.littleEndian(at: counts + 4, as: UInt16.self)
    sectionHeaderCount = bytes.littleEndian(at: counts + 8, as: UInt16.self)
  }

  /// A header of the 64-bit class, followed right away by its program headers.
  init(machine: Machine, programHeaderCount: UInt16) {
    width = .bits64
    self.machine = machine
    programHeaderOffset = UInt64(Width.bits64.headerByteCount)
    programHeaderStride = UInt16(Width.bits64.programHeaderByteCount)
    self.programHeaderCount = programHeaderCount
    sectionHeaderOffset = 0
    sectionHeaderCount = 0
  }

  /// - Precondition: The header was made by ``init(machine:programHeaderCount:)``.
  var encoded: [UInt8] {
    precondition(width == .bits64 && sectionHeaderCount == 0)
    // 64-bit, little-endian, version 1, System V.
    var bytes = Self.magic + [2, 1, 1] + [UInt8](repeating: 0, count: 9)
    bytes.appendLittleEndian(Self.coreType)
    bytes.appendLittleEndian(machine.rawValue)
    bytes.appendLittleEndian(UInt32(1))
    bytes.appendLittleEndian(UInt64(0))
    bytes.appendLittleEndian(programHeaderOffset)
    bytes.appendLittleEndian(sectionHeaderOffset)
    bytes.appendLittleEndian(UInt32(0))
    bytes.appendLittleEndian(UInt16(width.headerByteCount))
    bytes.appendLittleEndian(programHeaderStride)
    bytes.appendLittleEndian(programHeaderCount)
    bytes += [UInt8](repeating: 0, count: 6)
    return bytes
  }
}
