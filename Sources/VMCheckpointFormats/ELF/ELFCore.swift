import VMCheckpoint

/// What an ELF core has beside RAM's bytes: its header, its notes, and where RAM is.
struct ELFCore {
  /// A core of a terabyte that leaves every other page out has fewer, in any producer's way.
  static let maximumHeaderCount = 1 << 20
  static let maximumTableByteCount = 64 << 20
  static let maximumNoteByteCount = 64 << 20

  var machine: ELFHeader.Machine
  /// In the order of their program headers; none is empty.
  var loads: [MemoryLoad]
  var notes: ELFNotes
  /// What of the file is not kept.
  var warnings: [String]

  /// Reads header, tables and notes, and checks each number before it is used.
  ///
  /// - Throws: ``VMCheckpointError``, whose message goes on after the file's name.
  init(reading file: inout some DumpSource, requiresRAM: Bool = true) throws(VMCheckpointError) {
    var start = try file.read(at: 0, byteCount: 52, place: "in its header")
    if start.starts(with: ELFHeader.magic), start[4] == ELFHeader.Width.bits64.rawValue {
      start = try file.read(at: 0, byteCount: 64, place: "in its header")
    }
    let header = try ELFHeader(start)
    var scan = Scan(width: header.width)
    try scan.readTable(header, &file)
    if requiresRAM {
      guard !scan.loads.isEmpty else {
        throw .invalidData("holds no RAM: none of its program headers is a load")
      }
      try scan.requireGuest()
    }
    machine = header.machine
    loads = scan.loads
    notes = try scan.readNotes(machine, &file)
    warnings = scan.warnings
    if header.sectionHeaderCount > 2 {
      warnings.append("its \(header.sectionHeaderCount) sections are not kept")
    }
    let found = try notes.all()
    // NT_AUXV and NT_FILE, which the kernel writes for processes alone (Linux fs/binfmt_elf.c).
    if found.contains(where: { $0.isNamed("CORE") && ($0.type == 6 || $0.type == 0x4649_4c45) }) {
      throw Scan.process
    }
  }
}

/// The program headers on their way.
private struct Scan {
  typealias Kind = ELFProgramHeader.Kind

  let width: ELFHeader.Width
  var loads: [MemoryLoad] = []
  var notes: [ELFProgramHeader] = []
  /// How many program headers there are of each other type.
  private var others: [UInt32: Int] = [:]
  private var virtualAddresses: (first: UInt64, differ: Bool)?

  static let process = VMCheckpointError.invalidData(
    "is the core of a process, and not of a guest",
    hint: "dump the guest's memory, as by: virsh dump --memory-only"
  )

  init(width: ELFHeader.Width) { self.width = width }

  mutating func readTable(
    _ header: ELFHeader,
    _ file: inout some DumpSource
  ) throws(VMCheckpointError) {
    let count = try headerCount(header, &file)
    guard count > 0 else {
      throw .invalidData("has no program headers", hint: "Xen's cores are such, and cannot be read")
    }
    let stride = Int(header.programHeaderStride)
    guard stride >= width.programHeaderByteCount else {
      throw .invalidData("has program headers of \(stride) bytes, which are too few")
    }
    guard count <= ELFCore.maximumHeaderCount,
      count * stride <= ELFCore.maximumTableByteCount
    else { throw .invalidData("has \(count) program headers, which are too many") }
    let place = "in its program headers"
    try file.require(header.programHeaderOffset, UInt64(count * stride), place: place)
    let perRead = max(1, (1 << 20) / stride)
    for first in Swift.stride(from: 0, to: count, by: perRead) {
      let here = min(perRead, count - first)
      let bytes = try file.read(
        at: header.programHeaderOffset + UInt64(first * stride),
        byteCount: here * stride,
        place: place
      )
      for index in 0..<here {
        try add(ELFProgramHeader(bytes, at: index * stride, width: width), first + index, file)
      }
    }
  }

  private func headerCount(
    _ header: ELFHeader,
    _ file: inout some DumpSource
  ) throws(VMCheckpointError) -> Int {
    guard header.programHeaderCount == ELFHeader.extendedCount else {
      return Int(header.programHeaderCount)
    }
    guard header.sectionHeaderOffset > 0 else {
      throw .invalidData("does not say how many program headers it has")
    }
    let section = try file.read(
      at: header.sectionHeaderOffset,
      byteCount: width.sectionHeaderByteCount,
      place: "in its first section header"
    )
    // sh_info.
    return Int(section.littleEndian(at: width == .bits64 ? 44 : 28, as: UInt32.self))
  }

  private mutating func add(
    _ header: ELFProgramHeader,
    _ index: Int,
    _ file: some DumpSource
  ) throws(VMCheckpointError) {
    switch header.type {
    case Kind.load: try addLoad(header, index, file)
    case Kind.note:
      try file.require(header.fileOffset, header.fileByteCount, place: "in its notes")
      if header.fileByteCount > 0 { notes.append(header) }
    case Kind.null: break
    case let type: others[type, default: 0] += 1
    }
  }

  private mutating func addLoad(
    _ header: ELFProgramHeader,
    _ index: Int,
    _ file: some DumpSource
  ) throws(VMCheckpointError) {
    let title = "program header \(index), a load at GPA \(hexString(header.physicalAddress))"
    let name = "\(title),"
    guard header.fileByteCount <= header.memoryByteCount else {
      throw .invalidData(
        "is damaged: \(name) has \(hexString(header.fileByteCount)) bytes in the file and "
          + "\(hexString(header.memoryByteCount)) in memory"
      )
    }
    guard header.memoryByteCount > 0 else { return }
    let (end, overflows) = header.physicalAddress.addingReportingOverflow(header.memoryByteCount)
    guard !overflows, end <= RAMLayout.gpaLimit else {
      throw .invalidData(
        "is damaged: \(name) of \(hexString(header.memoryByteCount)) bytes ends beyond 52-bit "
          + "physical addresses"
      )
    }
    if header.fileByteCount > 0 {
      try file.require(header.fileOffset, header.fileByteCount, place: "in its RAM, \(title)")
    }
    let seen = virtualAddresses ?? (header.virtualAddress, false)
    virtualAddresses = (seen.first, seen.differ || header.virtualAddress != seen.first)
    loads.append(
      MemoryLoad(
        gpa: header.physicalAddress,
        fileOffset: header.fileOffset,
        fileByteCount: header.fileByteCount,
        memoryByteCount: header.memoryByteCount
      )
    )
  }

  /// Refuses the core of a process, whose loads have virtual addresses alone.
  func requireGuest() throws(VMCheckpointError) {
    if virtualAddresses?.differ == true, loads.allSatisfy({ $0.gpa == 0 }) { throw Self.process }
  }

  func readNotes(
    _ machine: ELFHeader.Machine,
    _ file: inout some DumpSource
  ) throws(VMCheckpointError) -> ELFNotes {
    var result = ELFNotes(machine: machine, bytes: [], alignment: 4)
    for (index, header) in notes.enumerated() {
      let alignment = header.alignment == 8 ? 8 : 4
      guard index == 0 || alignment == result.alignment else {
        throw .invalidData("has notes of different alignment")
      }
      let room = UInt64(ELFCore.maximumNoteByteCount - result.bytes.count)
      guard header.fileByteCount <= room else {
        throw .invalidData("has more than \(ELFCore.maximumNoteByteCount) bytes of notes")
      }
      result.alignment = alignment
      result.bytes.pad(to: alignment)
      result.bytes += try file.read(
        at: header.fileOffset,
        byteCount: Int(header.fileByteCount),
        place: "in its notes"
      )
    }
    return result
  }

  var warnings: [String] {
    others.sorted { $0.key < $1.key }.prefix(8).map {
      "its \($0.value) program headers of type \(hexString(UInt64($0.key))) are not kept"
    }
  }
}
