import VMCheckpoint

/// Takes a migration stream apart while it arrives: pages go to ``QEMURAMPages``, everything else
/// is kept as it is.
///
/// A stream has, in this order:
///
/// 1. a header with the machine's type;
/// 2. the RAM section's start with the list of blocks;
/// 3. any number of parts with pages, the same page perhaps several times;
/// 4. the RAM section's end, with pages as well;
/// 5. the devices' sections, whose lengths the stream does not state;
/// 6. an end mark;
/// 7. a description of the devices, with its length.
///
/// In a background snapshot (QEMU's capability `background-snapshot`) step 4 is missing: RAM ends where the first
/// device begins.
///
/// Whatever follows the RAM's end is therefore kept without a look into it. Only the description is
/// read: it shows that nothing is missing.
struct QEMUStreamParser {
  private typealias Section = QEMUStreamFormat.Section
  private typealias Flag = QEMUStreamFormat.RAMFlag

  private let input: QEMUStreamInput
  private let directory: String
  /// Whether the stream is a background snapshot.
  private let isBackground: Bool
  /// The type of the devices' first section, which shows where RAM ends.
  private var devicesBegin: [UInt8] = []

  private(set) var machineName = ""
  private(set) var ignoresShared = false
  /// Whether pages are at fixed places behind each block's header, by the capability `mapped-ram`.
  private var isMapped = false
  private var mappedRAM = QEMUMappedRAM()
  /// The configuration's `uuid` subsection as it came, or nothing.
  private var uuidSubsection: [UInt8] = []
  private var sectionID: UInt32 = 0
  private var instanceID: UInt32 = 0
  private(set) var blocks: [QEMURAMBlock] = []
  private var blockIndices: [[UInt8]: Int] = [:]
  private(set) var pages: (any QEMURAMPages)!
  /// Whether pages may have come by.
  private var hasPages = false
  private var currentBlock: Int?
  /// Commands between the RAM's parts, as they came.
  private var commands: [UInt8] = []
  private var progress: ProgressReporter

  /// - Parameter directory: Where RAM is put down that cannot stay where it is.
  init(
    _ input: QEMUStreamInput,
    isBackground: Bool = false,
    spoolDirectory directory: String,
    control: OperationControl
  ) {
    self.input = input
    self.isBackground = isBackground
    self.directory = directory
    progress = ProgressReporter(control, phase: "receiving", totalByteCount: nil)
  }

  /// Reads the whole stream.
  ///
  /// - Throws: ``VMCheckpointError``: `invalidData` that names what cannot be read safely.
  mutating func run() throws(VMCheckpointError) -> QEMUStreamContents {
    try readHeader()
    try readRAMStart()
    while try !readRAMPart() {}
    try pages.flush()
    let devices = try readDevices()
    return QEMUStreamContents(
      machineName: machineName,
      ignoresShared: ignoresShared,
      uuidSubsection: uuidSubsection,
      sectionID: sectionID,
      instanceID: instanceID,
      blocks: blocks,
      pages: pages,
      commands: commands,
      devices: devices
    )
  }

  // MARK: Header

  private mutating func readHeader() throws(VMCheckpointError) {
    // QEMU leaves a hole where a stream begins at an offset (`file:PATH,offset=N`).
    let zeroCount = try input.skipZeros(limit: QEMUStreamFormat.maximumOffset)
    let magic = try input.uint32()
    guard magic == QEMUStreamFormat.magic else {
      throw .invalidData(
        "\(input.name) is not a migration stream: it begins with \(hexString(UInt64(magic)))"
          + (zeroCount == 0 ? "" : ", behind \(zeroCount) zeros"),
        hint: Self.hint(forMagic: magic)
      )
    }
    let version = try input.uint32()
    guard version == QEMUStreamFormat.version else {
      throw input.invalid("version \(version) of the format is unknown")
    }
    guard try input.byte() == Section.configuration else {
      throw input.invalid(
        "the stream does not name the machine's type",
        hint: "machine types of QEMU 2.4 and later do"
      )
    }
    let byteCount = try input.uint32()
    guard byteCount > 0, byteCount <= QEMUStreamFormat.maximumMachineNameByteCount else {
      throw input.invalid("a machine type's name of \(byteCount) bytes")
    }
    let name = try input.bytes(count: Int(byteCount))
    guard name.allSatisfy({ (0x21...0x7e).contains($0) }) else {
      throw input.invalid("the machine type's name is wrong")
    }
    machineName = String(decoding: name, as: UTF8.self)
  }

  /// What QEMU calls sections that are sent in parts, as RAM is, behind the path of a device if there is
  /// one.
  private static let knownSections: Set<String> = [
    "ram", "block", "dirty-bitmap", "virtio-mem", "vfio",
  ]

  /// A name as messages show it. Once pages have come by, what a mutilated stream has in a name's place
  /// may be guest RAM: then only names that are known are shown.
  private func shown(_ name: [UInt8]) -> String {
    let text = String(decoding: name, as: UTF8.self)
    let isPlain = !name.isEmpty && name.allSatisfy { (0x21...0x7e).contains($0) }
    if blockIndices[name] != nil || (!hasPages && isPlain) { return quotedName(text) }
    let last = text.utf8.split(separator: UInt8(ascii: "/")).last.map { String(Substring($0)) }
    if let last, Self.knownSections.contains(last) { return quotedName(last) }
    return "with an unknown name of \(name.count) bytes"
  }

  private static func hint(forMagic magic: UInt32) -> String? {
    if magic == 0x1122_3344 { return "it is a multifd channel; migrate without multifd" }
    if magic >> 16 == 0x1603 { return "it is encrypted by TLS; migrate without tls-creds" }
    return "take it with QMP's migrate, for example to exec:cat"
  }

  /// Reads the configuration's subsections; returns the first byte that does not begin one.
  private mutating func readSubsections() throws(VMCheckpointError) -> UInt8 {
    while true {
      let type = try input.byte()
      guard type == Section.subsection else { return type }
      let nameBytes = try string()
      let version = try input.uint32()
      switch (String(decoding: nameBytes, as: UTF8.self), version) {
      case ("configuration/capabilities", 1):
        try readCapabilities()
      case ("configuration/uuid", 1):
        uuidSubsection = [Section.subsection, UInt8(nameBytes.count)] + nameBytes
        uuidSubsection.appendBigEndian(version)
        uuidSubsection += try input.bytes(count: 16)
      case (let name, _):
        throw input.invalid(
          "subsection \(shown(Array(name.utf8))) version \(version) is unknown"
        )
      }
    }
  }

  private mutating func readCapabilities() throws(VMCheckpointError) {
    let count = try input.uint32()
    guard count <= QEMUStreamFormat.maximumCapabilityCount else {
      throw input.invalid("\(count) migration capabilities")
    }
    var names: Set<String> = []
    for _ in 0..<count { names.insert(String(decoding: try string(), as: UTF8.self)) }
    ignoresShared = names.contains("x-ignore-shared")
    isMapped = names.contains("mapped-ram")
    // With mapped-ram, multifd changes nothing in the file.
    let known = isMapped ? ["x-ignore-shared", "mapped-ram", "multifd"] : ["x-ignore-shared"]
    if let name = names.subtracting(known).min() {
      throw unsupported("the capability \(shown(Array(name.utf8)))", disable: name)
    }
  }

  // MARK: RAM

  private mutating func readRAMStart() throws(VMCheckpointError) {
    var type = try readSubsections()
    while type == Section.command {
      try readCommand()
      type = try input.byte()
    }
    switch type {
    case Section.start: break
    case Section.full:
      _ = try input.uint32()
      let name = try string()
      throw input.invalid(
        "section \(shown(name)) comes before RAM, which is not supported",
        hint: "it belongs to a device such as virtio-mem; save the guest without it"
      )
    default: throw input.invalid("section type \(type) is unknown here")
    }
    sectionID = try input.uint32()
    let name = try string()
    guard name == QEMUStreamFormat.ramSectionName else {
      throw input.invalid(
        "section \(shown(name)) is not supported",
        hint: "only RAM may be sent in parts: migrate without block migration, dirty bitmaps and "
          + "passed-through devices"
      )
    }
    instanceID = try input.uint32()
    let version = try input.uint32()
    guard version == QEMUStreamFormat.ramSectionVersion else {
      throw input.invalid("version \(version) of the RAM section is unknown")
    }
    let word = try input.uint64()
    guard word & Flag.mask == Flag.blockList else {
      throw input.invalid("the RAM section does not begin with its blocks")
    }
    try readBlocks(totalByteCount: word & ~Flag.mask)
    hasPages = true
    try readPages()
    try readFooter()
  }

  /// Pages of a regular file stay where they are.
  private func makePages(byteCount: UInt64) throws(VMCheckpointError) -> any QEMURAMPages {
    guard input.fileOffset != nil, byteCount <= QEMURAMInPlace.maximumByteCount else {
      return try QEMURAMSpool(byteCount: byteCount, directory: directory)
    }
    return try QEMURAMInPlace(
      byteCount: byteCount,
      descriptor: input.descriptor,
      name: input.name
    )
  }

  private mutating func readBlocks(totalByteCount: UInt64) throws(VMCheckpointError) {
    guard totalByteCount > 0, totalByteCount <= QEMUStreamFormat.maximumRAMByteCount else {
      throw input.invalid("\(totalByteCount) bytes of RAM")
    }
    pages = try makePages(byteCount: totalByteCount)
    var sum: UInt64 = 0
    while sum < totalByteCount {
      let name = try string()
      let byteCount = try input.uint64()
      guard byteCount > 0, byteCount % UInt64(Page.byteCount) == 0,
        byteCount <= totalByteCount - sum
      else {
        throw input.invalid(
          "RAM block \(shown(name)) has \(byteCount) bytes"
        )
      }
      if ignoresShared { _ = try input.uint64() }
      guard !name.isEmpty, blocks.count < QEMUStreamFormat.maximumBlockCount,
        blockIndices.updateValue(blocks.count, forKey: name) == nil
      else {
        throw input.invalid("the list of RAM blocks is wrong")
      }
      let block = QEMURAMBlock(name: name, byteCount: byteCount, spoolOffset: sum)
      blocks.append(block)
      sum += byteCount
      if isMapped {
        hasPages = true
        try mappedRAM.read(block, from: input, to: pages)
        progress.report(completedByteCount: input.offset)
      }
    }
  }

  /// Reads a part of the RAM section, or a command that comes instead of one.
  ///
  /// - Returns: Whether it was the section's end.
  private mutating func readRAMPart() throws(VMCheckpointError) -> Bool {
    let type = try input.byte()
    switch type {
    case Section.part, Section.end:
      let id = try input.uint32()
      guard id == sectionID else { throw input.invalid("section \(id) was not begun") }
      try readPages()
      try readFooter()
      return type == Section.end
    case Section.command:
      try readCommand()
      return false
    case Section.start:
      _ = try input.uint32()
      let name = try string()
      throw input.invalid(
        "section \(shown(name)) is not supported",
        hint: "only RAM may be sent in parts: migrate without block migration, dirty bitmaps and "
          + "passed-through devices"
      )
    case Section.full where isBackground:
      devicesBegin = [type]
      return true
    case Section.full:
      _ = try input.uint32()
      let name = try string()
      throw input.invalid(
        "section \(shown(name)) comes before the end of RAM, which is not supported",
        hint: "switch the capability background-snapshot off and migrate again"
      )
    default:
      throw input.invalid("section type \(type) is unknown before the end of RAM")
    }
  }

  /// Reads a command. Keeps what is part of the stream, and leaves out what only a program needs that
  /// receives the stream from a running QEMU.
  private mutating func readCommand() throws(VMCheckpointError) {
    let command = try input.uint16()
    let byteCount = try input.uint16()
    guard QEMUStreamFormat.Command.argumentByteCounts[command] == byteCount else {
      throw unsupported(
        QEMUStreamFormat.feature(ofCommand: command),
        disable: (3...8).contains(command) ? "postcopy-ram (and dirty-bitmaps)" : nil
      )
    }
    _ = try input.bytes(count: Int(byteCount))
    guard command == QEMUStreamFormat.Command.switchoverStart else { return }
    commands.append(Section.command)
    commands.appendBigEndian(command)
    commands.appendBigEndian(byteCount)
    guard commands.count <= 1024 else { throw input.invalid("too many commands") }
  }

  private mutating func readPages() throws(VMCheckpointError) {
    while true {
      let word = try input.uint64()
      let flags = word & Flag.mask
      switch flags & ~Flag.sameBlock {
      case Flag.page:
        let offset = try pageOffset(word)
        let (pages, source) = (pages!, input.fileOffset)
        try input.withBytes(count: Page.byteCount) { page throws(VMCheckpointError) in
          try pages.write(page, at: offset, from: source)
        }
      case Flag.zero:
        let offset = try pageOffset(word)
        let fill = try input.byte()
        if fill == 0 {
          try pages.writeZero(at: offset)
        } else {
          let page = [UInt8](repeating: fill, count: Page.byteCount)
          // Array's own closures only rethrow untyped errors.
          try page.withUnsafeBytes { bytes in
            Result { () throws(VMCheckpointError) in
              try pages.write(bytes, at: offset, from: nil)
            }
          }.get()
        }
      case Flag.endOfSection where flags == Flag.endOfSection:
        guard word == flags else { throw input.invalid("the end of a RAM section is wrong") }
        progress.report(completedByteCount: input.offset)
        return
      default:
        throw unsupported(flags: flags)
      }
    }
  }

  /// Where the page is in the sequence of blocks; reads the block's name if it is given.
  private mutating func pageOffset(_ word: UInt64) throws(VMCheckpointError) -> UInt64 {
    if word & Flag.sameBlock == 0 {
      let name = try string()
      guard let index = blockIndices[name] else {
        throw input.invalid(
          "RAM block \(shown(name)) is not in the list"
        )
      }
      currentBlock = index
    }
    guard let currentBlock else { throw input.invalid("a page without a RAM block") }
    let block = blocks[currentBlock]
    let offset = word & ~Flag.mask
    guard offset < block.byteCount else {
      throw input.invalid(
        "page \(hexString(offset)) is not in RAM block \(quotedName(block.text))"
      )
    }
    return block.spoolOffset + offset
  }

  private func readFooter() throws(VMCheckpointError) {
    guard try input.byte() == Section.footer, try input.uint32() == sectionID else {
      throw input.invalid("a RAM section does not end as it should")
    }
  }

  // MARK: Devices

  private func readDevices() throws(VMCheckpointError) -> [UInt8] {
    let start = input.offset - UInt64(devicesBegin.count)
    let name = input.name
    var search = QEMUDeviceDescription.Search()
    let rest = try input.rest(
      maximumByteCount: QEMUStreamFormat.maximumDeviceStateByteCount
    ) { bytes throws(VMCheckpointError) in
      // What follows a stream's end may be without end, and would all be kept in memory.
      if search.findsEnd(in: bytes) { throw QEMUDeviceDescription.goesOn.naming("\(name):") }
    }
    guard let devices = rest.map({ devicesBegin + $0 }) else {
      throw input.invalid(
        "more than \(QEMUStreamFormat.maximumDeviceStateByteCount) bytes of device state"
      )
    }
    switch devices.first {
    case Section.full, Section.endOfSections: break
    case Section.start, Section.part, Section.end:
      throw .invalidData("\(input.name), byte \(start): a section in parts follows RAM")
    case Section.command where devices.count >= 3:
      let command = UInt16(devices[1]) << 8 | UInt16(devices[2])
      throw unsupported(QEMUStreamFormat.feature(ofCommand: command), disable: nil)
    default:
      throw .invalidData("\(input.name), byte \(start): no device state follows RAM")
    }
    do {
      try QEMUDeviceDescription.check(devices)
    } catch {
      throw .invalidData("\(input.name): \(error.message)", hint: error.hint)
    }
    return devices
  }

  // MARK: Pieces and errors

  /// A length in one byte, and as many bytes.
  private func string() throws(VMCheckpointError) -> [UInt8] {
    try input.bytes(count: Int(try input.byte()))
  }

  private func unsupported(flags: UInt64) -> VMCheckpointError {
    if flags & Flag.xbzrle != 0 { return unsupported("xbzrle", disable: "xbzrle") }
    if flags & Flag.compressedPage != 0 { return unsupported("compression", disable: "compress") }
    if flags & Flag.multifdFlush != 0 { return unsupported("multifd", disable: "multifd") }
    if flags & Flag.hook != 0 { return unsupported("RDMA", disable: nil) }
    return input.invalid("RAM flags \(hexString(flags)) are unknown")
  }

  private func unsupported(_ feature: String, disable capability: String?) -> VMCheckpointError {
    input.invalid(
      "the stream uses \(feature), which is not supported",
      hint: capability.map { "switch the capability \($0) off and migrate again" }
        ?? "migrate again without it"
    )
  }
}

extension [UInt8] {
  /// Appends `value`'s bytes, the most significant one first.
  mutating func appendBigEndian(_ value: some FixedWidthInteger) {
    Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
  }
}
