import VMCheckpoint

/// A vmstate file of Firecracker, as far as it must be understood.
///
/// Versions 2 to 8 of the format (Firecracker 1.8 to 1.14) are encoded by bincode:
///
///     magic number, u64; version, text
///     mem_size_mib u64, smt u8, cpu_template u32, kernel path text, initrd and arguments optional text,
///     huge_pages u32
///     2 to 5:  memory regions
///     6 to 8:  KVM capabilities, texts; memory regions
///     …        vCPUs and devices
///     checksum u64
///
/// From version 9 on (Firecracker 1.15) bitcode encodes it, in which nothing has a fixed place.
///
/// Sources: firecracker `src/vmm/src/{snapshot/mod,persist,vstate/memory}.rs` at 81b38b9d and at the tags of 1.8
/// to 1.14.
struct FirecrackerState {
  /// The machine that the guest runs on.
  enum Machine: UInt64, CaseIterable {
    case x86 = 0x0710_1984_8664_0000
    case arm64 = 0x0710_1984_aaaa_0000

    /// The magic number as it is in a file.
    var magic: [UInt8] {
      (0..<8).map { UInt8(truncatingIfNeeded: rawValue >> UInt64(8 * $0)) }
    }
  }

  /// A part of guest-physical addresses as a vmstate describes it.
  struct Region: Hashable {
    var gpa: UInt64
    var byteCount: UInt64
    /// Where it is in the memory file; `nil`: behind the region before it.
    var fileOffset: UInt64?
    /// Whether it is virtio-mem's: not part of the memory that the VM was made with.
    var isHotpluggable = false
    /// Which of its slots, all of one size, are RAM.
    var plugged: [Bool] = [true]
  }

  /// What the file says of memory.
  enum Memory: Hashable {
    /// The regions by each way to read them that the version allows.
    case regions([[Region]], mebibytes: UInt64)
    /// Nothing that can be read: addresses follow from the memory file's size.
    case unknown
  }

  /// Firecracker reads no larger one.
  static let maximumByteCount = 10_000_000
  /// The versions that bincode encodes.
  static let bincodeVersions: ClosedRange<UInt64> = 2...8

  let bytes: [UInt8]
  /// `nil`: the file does not show it.
  let machine: Machine?
  /// The version's first number; `nil`: 9 or later.
  let version: UInt64?
  let memory: Memory

  /// Whether a file that begins like this is a vmstate of version 8 or before.
  static func recognizes(_ head: FileHead) -> Bool {
    Machine.allCases.contains { head.has($0.magic) }
  }

  /// Whether a whole file is a vmstate of any version, damaged or not.
  static func isState(_ bytes: [UInt8]) -> Bool {
    Machine.allCases.contains { bytes.starts(with: $0.magic) } || hasChecksum(bytes)
  }

  private static func hasChecksum(_ bytes: [UInt8]) -> Bool {
    // The checksum of zeros is 0: they are not a vmstate.
    bytes.count > 8 && CRC64.checksum(bytes) == 0 && bytes.suffix(8).contains { $0 != 0 }
  }

  /// - Throws: ``VMCheckpointError`` with the code `invalidData`, whose message goes on after the file's name.
  init(_ bytes: [UInt8]) throws(VMCheckpointError) {
    self.bytes = bytes
    let magic = bytes.count < 8 ? 0 : bytes.littleEndian(at: 0, as: UInt64.self)
    guard Self.hasChecksum(bytes) else {
      guard Machine(rawValue: magic) != nil else {
        throw .invalidData("is not a vmstate of Firecracker: its checksum is not right")
      }
      throw .invalidData(
        "is damaged: its checksum is not right",
        hint: "copy it again, and save when Firecracker has answered"
      )
    }
    guard let machine = Machine(rawValue: magic) else {
      self.machine = Self.machineInBitcode(bytes)
      version = nil
      memory = .unknown
      return
    }
    self.machine = machine
    // The checksum is not read as anything else.
    var reader = BincodeReader(Array(bytes.dropLast(8)), at: 8)
    let version = try Self.version(&reader)
    self.version = version
    let mebibytes: UInt64 = try reader.integer("its memory's size")
    _ = try reader.boolean("smt")
    _ = try reader.integer("its CPU template", as: UInt32.self)
    try reader.skipText("its kernel's path")
    try reader.skipOptionalText("its initrd's path")
    try reader.skipOptionalText("its kernel's arguments")
    _ = try reader.integer("the size of its pages", as: UInt32.self)
    if version >= 6 {
      for _ in 0..<(try reader.count("its KVM capabilities", elementByteCount: 8)) {
        try reader.skipText("a KVM capability")
      }
    }
    memory = .regions(try Self.regions(reader, version), mebibytes: mebibytes)
  }

  private static func version(_ reader: inout BincodeReader) throws(VMCheckpointError) -> UInt64 {
    let text = String(decoding: try reader.text("its version").prefix(32), as: UTF8.self)
    let numbers = text.split(separator: ".", omittingEmptySubsequences: false).map { UInt64($0) }
    guard numbers.count == 3, let major = numbers[0], numbers[1] != nil, numbers[2] != nil else {
      throw .invalidData("is damaged: \(quotedForMessage(text)) is not a version")
    }
    guard bincodeVersions.contains(major) else {
      throw .invalidData(
        "has version \(text) of the format, which is unknown",
        hint: "versions 2 to 8 are read, and those that later Firecrackers encode by bitcode"
      )
    }
    return major
  }

  /// Version 5 was changed without a new number, and so was version 8: several ways may be right.
  private static func regions(
    _ reader: BincodeReader,
    _ version: UInt64
  ) throws(VMCheckpointError) -> [[Region]] {
    let ways: [RegionForm] =
      switch version {
      case ...4: [.offset, .plain]
      case 5: [.plain, .offset]
      case 8: [.slots, .plain]
      default: [.plain]
      }
    var found: [[Region]] = []
    var failure: VMCheckpointError?
    for way in ways {
      do throws(VMCheckpointError) {
        var reader = reader
        found.append(try way.regions(&reader))
      } catch {
        failure = failure ?? error
      }
    }
    if found.isEmpty, let failure { throw failure }
    return found
  }

  /// Bitcode does not change numbers of 64 bits, if it need not: the magic number is somewhere.
  private static func machineInBitcode(_ bytes: [UInt8]) -> Machine? {
    let found = Machine.allCases.filter { machine in
      bytes.indices.dropLast(7).contains { bytes[$0...].starts(with: machine.magic) }
    }
    return found.count == 1 ? found[0] : nil
  }
}

/// What a vmstate says of each memory region.
private enum RegionForm {
  case offset
  case plain
  case slots

  func regions(
    _ reader: inout BincodeReader
  ) throws(VMCheckpointError) -> [FirecrackerState.Region] {
    let count = try reader.count("its memory regions", elementByteCount: 16)
    guard (1...RAMLayout.maximumRegionCount).contains(count) else {
      throw .invalidData(
        "has \(count) memory regions, and 1 to \(RAMLayout.maximumRegionCount) can be stored"
      )
    }
    var regions: [FirecrackerState.Region] = []
    for _ in 0..<count {
      let gpa: UInt64 = try reader.integer("a memory region")
      let byteCount: UInt64 = try reader.integer("a memory region")
      var region = FirecrackerState.Region(gpa: gpa, byteCount: byteCount)
      switch self {
      case .plain: break
      case .offset: region.fileOffset = try reader.integer("a memory region")
      case .slots:
        let type: UInt32 = try reader.integer("a memory region's type")
        guard type <= 1 else {
          throw .invalidData("has a memory region of the unknown type \(type)")
        }
        region.isHotpluggable = type == 1
        region.plugged = []
        for _ in 0..<(try reader.count("a memory region's slots", elementByteCount: 1)) {
          region.plugged.append(try reader.boolean("a memory region's slot"))
        }
      }
      regions.append(region)
    }
    return regions
  }
}
