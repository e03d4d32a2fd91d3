import VMCheckpoint

/// A kept migration stream in the order of a postcopy migration: the guest runs before its RAM has come.
///
/// 1. header, configuration; a return path is opened; a ping; advice that postcopy follows, upon which
///    QEMU checks whether the host allows it;
/// 2. the RAM section's start with its blocks, the pages of all blocks that are not the guest's RAM, and
///    that all pages of RAM are missing;
/// 3. a package, which QEMU reads whole before it looks at it: pages come from now on, the devices, a ping,
///    and that the guest runs;
/// 4. parts with pages, as QEMU asks for them or not; the RAM section's end; an end mark.
///
/// Sources: QEMU `docs/devel/migration/postcopy.rst`, `migration/savevm.c`.
struct QEMUPostcopyStream {
  private typealias Section = QEMUStreamFormat.Section

  private enum Command {
    static let openReturnPath: UInt16 = 1
    static let ping: UInt16 = 2
    static let advise: UInt16 = 3
    static let listen: UInt16 = 4
    static let run: UInt16 = 5
    static let discard: UInt16 = 6
    static let package: UInt16 = 7
    static let resume: UInt16 = 9
    static let receivedBitmap: UInt16 = 10
  }

  /// What pings carry; their answers say how far QEMU has come.
  enum Ping {
    /// It has understood that postcopy follows, and the host allows it.
    static let advised: UInt32 = 2
    /// It has loaded all devices, and starts the guest.
    static let loaded: UInt32 = 3
  }

  /// QEMU's own limit for a package.
  private static let maximumPackageByteCount = 1 << 24

  /// The blocks that are the guest's RAM, in the order in which they make up flat RAM.
  let blocks: [QEMUMachineRecord.RAMBlock]
  /// The names of all other blocks.
  let otherBlocks: Set<[UInt8]>
  private let sectionID: UInt32
  /// Up to the RAM section.
  private let head: ArraySlice<UInt8>
  private let ramStart: ArraySlice<UInt8>
  /// Records of pages that are not the guest's RAM.
  private let otherPages: ArraySlice<UInt8>
  private let devices: ArraySlice<UInt8>

  /// - Throws: ``VMCheckpointError``: `corrupt` when the stream is not one that was kept; `unavailable` when
  ///   QEMU cannot take it in this order.
  init(_ state: QEMUStoredState, of title: String) throws(VMCheckpointError) {
    let stream = state.stream
    guard let start = Self.ramStart(stream, to: state.record.ramOffset),
      let names = Self.blockNames(stream[start..<state.record.ramOffset]),
      let end = QEMUDeviceSections.ramEnd(stream, state.record.ramOffset),
      let description = QEMUDeviceDescription.start(in: stream), description - 6 >= end.devices
    else {
      throw VMCheckpointError(.corrupt, "\(title): its device state is damaged")
    }
    blocks = state.record.ramBlocks
    otherBlocks = names.subtracting(blocks.map { Array($0.name.utf8) })
    guard otherBlocks.count == names.count - blocks.count else {
      throw VMCheckpointError(.corrupt, "\(title): its device state lacks a block of its RAM")
    }
    sectionID = state.sectionID
    head = stream[..<start]
    ramStart = stream[start..<state.record.ramOffset]
    otherPages = stream[end.pages]
    // Without the end mark and the description's mark and length.
    devices = stream[end.devices..<(description - 6)]
    guard devices.count + 64 <= Self.maximumPackageByteCount else {
      throw VMCheckpointError(
        .unavailable,
        "\(title): its devices have \(devices.count) bytes, and QEMU takes 16 MiB before the guest runs",
        hint: "restore it, as with: vmckpt restore REF --format qemu -o DIRECTORY"
      )
    }
  }

  /// Where the RAM section begins: behind the header, the machine's name, and perhaps its UUID.
  private static func ramStart(_ stream: [UInt8], to limit: Int) -> Int? {
    func length(at offset: Int, _ byteCount: Int) -> Int? {
      guard offset + byteCount <= limit else { return nil }
      return stream[offset..<(offset + byteCount)].reduce(0) { $0 << 8 | Int($1) }
    }
    guard limit > 13, stream[8] == Section.configuration, let nameByteCount = length(at: 9, 4),
      nameByteCount <= QEMUStreamFormat.maximumMachineNameByteCount
    else { return nil }
    var offset = 13 + nameByteCount
    if offset < limit, stream[offset] == Section.subsection {
      guard let nameByteCount = length(at: offset + 1, 1) else { return nil }
      offset += 2 + nameByteCount + 4 + 16
    }
    return offset < limit && stream[offset] == Section.start ? offset : nil
  }

  /// The names in the list of blocks.
  private static func blockNames(_ section: ArraySlice<UInt8>) -> Set<[UInt8]>? {
    // A mark, the section's id, its name with the length, its instance and version.
    var rest = section.dropFirst(1 + 4 + 1 + QEMUStreamFormat.ramSectionName.count + 4 + 4)
    func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
    guard rest.count >= 8 else { return nil }
    var left = number(rest.prefix(8)) & ~QEMUStreamFormat.RAMFlag.mask
    rest = rest.dropFirst(8)
    var names: Set<[UInt8]> = []
    while left > 0 {
      guard let nameByteCount = rest.first, rest.count >= 1 + Int(nameByteCount) + 8 else {
        return nil
      }
      let name = Array(rest.dropFirst().prefix(Int(nameByteCount)))
      rest = rest.dropFirst(1 + Int(nameByteCount))
      let byteCount = number(rest.prefix(8))
      rest = rest.dropFirst(8)
      guard byteCount > 0, byteCount <= left, names.insert(name).inserted else { return nil }
      left -= byteCount
    }
    return names
  }

  // MARK: Parts of the stream

  /// The first part. QEMU answers ``Ping/advised``.
  var opening: [UInt8] {
    var data = Array(head)
    data += Self.command(Command.openReturnPath)
    var sizes: [UInt8] = []
    // The sizes of the pages that blocks are made of, and of the target's pages.
    sizes.appendBigEndian(UInt64(Page.byteCount))
    sizes.appendBigEndian(UInt64(Page.byteCount))
    data += Self.command(Command.advise, sizes)
    data += Self.ping(Ping.advised)
    return data
  }

  /// The second and third part. QEMU answers ``Ping/loaded``, and lets the guest run.
  var package: [UInt8] {
    var data = Array(ramStart)
    beginPart(&data)
    data += otherPages
    endPart(&data)
    for block in blocks {
      let name = Array(block.name.utf8)
      var range: [UInt8] = [0, UInt8(name.count)] + name + [0]
      range.appendBigEndian(UInt64(0))
      range.appendBigEndian(block.byteCount)
      data += Self.command(Command.discard, range)
    }
    var package = Self.command(Command.listen)
    package += devices
    package += Self.ping(Ping.loaded)
    package += Self.command(Command.run)
    var byteCount: [UInt8] = []
    byteCount.appendBigEndian(UInt32(package.count))
    data += Self.command(Command.package, byteCount)
    data += package
    return data
  }

  /// Begins a part with pages.
  func beginPart(_ data: inout [UInt8]) {
    data.append(Section.part)
    data.appendBigEndian(sectionID)
  }

  /// Ends a part with pages.
  func endPart(_ data: inout [UInt8]) {
    data.appendBigEndian(QEMUStreamFormat.RAMFlag.endOfSection)
    data.append(Section.footer)
    data.appendBigEndian(sectionID)
  }

  /// The end. QEMU answers that it is over.
  var ending: [UInt8] {
    var data = [Section.end]
    data.appendBigEndian(sectionID)
    endPart(&data)
    data.append(Section.endOfSections)
    return data
  }

  /// Asks which pages of a block are there.
  static func askForBitmap(_ name: [UInt8]) -> [UInt8] {
    command(Command.receivedBitmap, [UInt8(name.count)] + name)
  }

  /// Asks QEMU to go on after a recovery.
  static var resume: [UInt8] { command(Command.resume) }

  private static func ping(_ value: UInt32) -> [UInt8] {
    var data: [UInt8] = []
    data.appendBigEndian(value)
    return command(Command.ping, data)
  }

  private static func command(_ command: UInt16, _ data: [UInt8] = []) -> [UInt8] {
    var bytes = [Section.command]
    bytes.appendBigEndian(command)
    bytes.appendBigEndian(UInt16(data.count))
    return bytes + data
  }
}
