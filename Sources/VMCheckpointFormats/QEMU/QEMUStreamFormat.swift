import VMCheckpoint

/// Numbers of QEMU's migration stream.
///
/// Sources: QEMU `docs/devel/migration/main.rst`, `migration/savevm.c`, `migration/ram.c` and
/// `scripts/analyze-migration.py`, 7.2 to 10.1; streams of 7.2.22 looked at.
enum QEMUStreamFormat {
  /// `QEVM`.
  static let magic: UInt32 = 0x5145_564d
  static let version: UInt32 = 3

  /// What a section begins with.
  enum Section {
    static let endOfSections: UInt8 = 0x00
    static let start: UInt8 = 0x01
    static let part: UInt8 = 0x02
    static let end: UInt8 = 0x03
    static let full: UInt8 = 0x04
    static let subsection: UInt8 = 0x05
    static let description: UInt8 = 0x06
    static let configuration: UInt8 = 0x07
    static let command: UInt8 = 0x08
    static let footer: UInt8 = 0x7e
  }

  /// The low 12 bits of a word in the RAM section; the rest is an offset in a block.
  enum RAMFlag {
    static let zero: UInt64 = 0x002
    static let blockList: UInt64 = 0x004
    static let page: UInt64 = 0x008
    static let endOfSection: UInt64 = 0x010
    static let sameBlock: UInt64 = 0x020
    static let xbzrle: UInt64 = 0x040
    static let hook: UInt64 = 0x080
    static let compressedPage: UInt64 = 0x100
    static let multifdFlush: UInt64 = 0x200
    static let mask: UInt64 = 0xfff
  }

  static let ramSectionName = Array("ram".utf8)
  /// How far behind the beginning of a file a stream may begin.
  static let maximumOffset: UInt64 = 64 << 20
  static let ramSectionVersion: UInt32 = 4

  /// Commands that are part of a stream or harmless, and how long their arguments are.
  enum Command {
    /// Asks for a return path, and for an answer by it. Nothing of the guest depends on them; QEMU 7.2
    /// sends them in every stream after a migration with postcopy has failed.
    static let openReturnPath: UInt16 = 1
    static let ping: UInt16 = 2
    /// With which QEMU 10 says that the guest has been stopped.
    static let switchoverStart: UInt16 = 11

    static let argumentByteCounts: [UInt16: UInt16] = [
      openReturnPath: 0, ping: 4, switchoverStart: 0,
    ]
  }

  /// The names of the other commands, which belong to features that a stream in a file cannot have.
  static func feature(ofCommand command: UInt16) -> String {
    switch command {
    case 3...8: "postcopy"
    case 9: "COLO"
    case 10: "postcopy recovery"
    default: "the unknown command \(command)"
    }
  }

  // MARK: Limits

  /// More than any machine's memory devices, ROMs and video cards.
  static let maximumBlockCount = 1024
  /// 4 TiB; a bit for each page is kept in memory.
  static let maximumRAMByteCount: UInt64 = 4 << 40
  static let maximumMachineNameByteCount = 255
  static let maximumCapabilityCount: UInt32 = 64
  /// Blocks other than the RAM, and the devices: a video card has 16 MiB, a device some KiB.
  static let maximumDeviceStateByteCount = 256 << 20
  /// The description of all devices at the stream's end has some 100 KiB.
  static let maximumDescriptionByteCount = 16 << 20
}
