import SystemPackage
import VMCheckpoint

/// A snapshot of propolis-standalone: a tar archive of the guest's configuration, its devices' states
/// and its RAM.
///
///     config.toml                     the VM's configuration; `main.memory` is the RAM in MiB
///     global.json                     {"boot_hrtime": …}
///     devices/, memory/               directories
///     devices/NAME.json               {"instance_name": …, "payload": [{"kind", "version", "data"}]}
///     memory/00000000-20000000.bin    RAM, as it lies in GPAs; two when there are more than 3 GiB
///
/// Source: propolis `bin/propolis-standalone/src/snapshot.rs` at 372a5744.
///
/// A snapshot in a store keeps every member but RAM as a device state, in the archive's order, and
/// before them the archive's headers as they are. So a restored archive is made of the same bytes.
struct PropolisArchive {
  /// The format of the device state that holds the archive's headers, and its name.
  static let headersFormat = "propolis-tar-headers"
  /// The version of all formats here.
  static let formatVersion: UInt32 = 1

  /// The whole of the devices' states: they are held in memory.
  private static let maximumStateByteCount = DeviceState.maximumByteCount

  let index: TarIndex
  /// What each of the index's members is.
  let kinds: [PropolisMember]
  let layout: RAMLayout
  /// Where RAM stands in the archive.
  let placement: RAMPlacement

  /// Sorts the members of an archive.
  ///
  /// - Throws: ``VMCheckpointError``, whose message goes on after the archive's name, when they are
  ///   not those of a snapshot.
  init(_ index: TarIndex) throws(VMCheckpointError) {
    self.index = index
    var kinds: [PropolisMember] = []
    var memory: [(start: UInt64, end: UInt64, offset: UInt64)] = []
    for member in index.members {
      let kind = try PropolisMember(member)
      kinds.append(kind)
      if case .memory(let start, let end) = kind { memory.append((start, end, member.dataOffset)) }
    }
    for (kind, name) in [(PropolisMember.config, "config.toml"), (.global, "global.json")] {
      guard kinds.contains(kind) else {
        throw .invalidData(
          "has no \(name)",
          hint: "give a snapshot that propolis-standalone has written"
        )
      }
    }
    guard kinds.contains(.device) else {
      throw .invalidData("has no device in devices/")
    }
    memory.sort { $0.start < $1.start }
    let byteCount = memory.reduce(0 as UInt64) { $0 &+ ($1.end - $1.start) }
    guard !memory.isEmpty else { throw .invalidData("has no RAM in memory/") }
    let layout = try PropolisLayout.layout(ramByteCount: byteCount)
    guard memory.map(\.start) == layout.regions.map(\.gpa),
      memory.map(\.end) == layout.regions.map(\.endGPA)
    else {
      throw .invalidData(
        "has RAM where Propolis puts none: "
          + memory.map { "\(hexString($0.start))-\(hexString($0.end))" }.joined(separator: ", "),
        hint: "RAM lies from 0 up to 3 GiB, and the rest from 4 GiB on"
      )
    }
    self.kinds = kinds
    self.layout = layout
    placement = RAMPlacement(layout) { region in
      memory.first { $0.start == region.gpa }!.offset
    }
  }

  /// The members that are kept as device states, in the archive's order.
  var stateMembers: [(member: TarIndex.Member, kind: PropolisMember)] {
    zip(index.members, kinds).filter { _, kind in
      switch kind {
      case .config, .global, .device: true
      case .directory, .memory: false
      }
    }
  }

  /// The formats of all device states that make up an archive.
  static let stateFormats: Set<String> = [
    headersFormat, stateFormat(.config), stateFormat(.global), stateFormat(.device),
  ]

  /// The format of a member's device state.
  static func stateFormat(_ kind: PropolisMember) -> String {
    switch kind {
    case .config: "propolis-config"
    case .global: "propolis-global"
    default: "propolis-device"
    }
  }
}

// MARK: - Reading a file

extension PropolisArchive {
  /// An archive in a file, with everything but RAM read.
  struct Opened {
    var descriptor: FileDescriptor
    var archive: PropolisArchive
    var deviceStates: [DeviceState]
    /// What the snapshot's own device says about overlays, if it has one.
    var overlays: OverlayDocument?
  }

  /// Opens the archive at `path`. The descriptor becomes the caller's.
  ///
  /// - Throws: ``VMCheckpointError`` that names the archive and what is wrong with it.
  static func open(path: String) throws(VMCheckpointError) -> Opened {
    let noun = "Propolis snapshot"
    let (descriptor, byteCount) = try openFile(path: path, noun: noun)
    do throws(VMCheckpointError) {
      return try read(descriptor, byteCount: byteCount)
    } catch {
      try? descriptor.close()
      throw VMCheckpointError(
        error.code,
        "\(noun) \(quotedName(path)) \(error.message)",
        hint: error.hint
      )
    }
  }

  private static func openFile(
    path: String,
    noun: String
  ) throws(VMCheckpointError) -> (descriptor: FileDescriptor, byteCount: UInt64) {
    do throws(VMCheckpointError) {
      return try FileRAMReader.open(path: path, noun: noun)
    } catch {
      guard error.code == .invalidData else { throw error }
      throw VMCheckpointError(
        error.code,
        error.message,
        hint: "give the archive as a file, not compressed: its RAM is read in place"
      )
    }
  }

  private static func read(
    _ descriptor: FileDescriptor,
    byteCount: UInt64
  ) throws(VMCheckpointError) -> Opened {
    var file = TarFile(descriptor: descriptor, byteCount: byteCount)
    let archive = try PropolisArchive(TarIndex(reading: &file))
    var states = [
      DeviceState(
        name: headersFormat,
        format: headersFormat,
        version: formatVersion,
        data: archive.index.skeleton
      )
    ]
    var overlays: OverlayDocument?
    var room = UInt64(maximumStateByteCount)
    for (member, kind) in archive.stateMembers {
      guard member.byteCount <= room else {
        throw .invalidData(
          "has devices with more than the \(maximumStateByteCount) bytes that can be stored"
        )
      }
      room -= member.byteCount
      try check(stateName: member.path)
      let data = try TarFile.read(
        descriptor,
        at: member.dataOffset,
        byteCount: Int(member.byteCount)
      )
      do throws(VMCheckpointError) {
        let found = try archive.examine(data, kind)
        if let found {
          guard overlays == nil else {
            throw .invalidData("is a second device \(HyperVInterface.propolisKind)")
          }
          overlays = found
        }
      } catch {
        throw VMCheckpointError(
          error.code,
          "is not usable: \(member.path) \(error.message)",
          hint: error.hint
        )
      }
      states.append(
        DeviceState(
          name: member.path,
          format: stateFormat(kind),
          version: formatVersion,
          data: data
        )
      )
    }
    return Opened(
      descriptor: descriptor,
      archive: archive,
      deviceStates: states,
      overlays: overlays
    )
  }

  /// The names that an archive's file suggests for the snapshot and the VM: propolis-standalone
  /// calls it `VM-MILLISECONDS.tar`.
  static func names(fileName: String) -> (snapshot: String, vm: String) {
    let name = fileName.hasSuffix(".tar") ? String(fileName.dropLast(4)) : fileName
    guard let dash = name.lastIndex(of: "-"), dash > name.startIndex else { return (name, name) }
    let time = name[dash...].dropFirst()
    let isTime = time.utf8.count >= 12 && time.utf8.allSatisfy { (0x30...0x39).contains($0) }
    return (name, isTime ? String(name[..<dash]) : name)
  }

  private static func check(stateName path: String) throws(VMCheckpointError) {
    do throws(VMCheckpointError) {
      try SnapshotName.check(path, what: "device state name")
    } catch {
      throw .invalidData(
        "has a member \(quotedName(path)), which cannot be the name of a device state",
        hint: error.hint
      )
    }
  }

  /// Checks the data of a member, and finds the overlays in it.
  ///
  /// - Throws: ``VMCheckpointError``, whose message goes on after the member's name.
  private func examine(
    _ data: [UInt8],
    _ kind: PropolisMember
  ) throws(VMCheckpointError) -> OverlayDocument? {
    switch kind {
    case .config:
      guard data.count <= PropolisConfig.maximumByteCount else {
        throw .invalidData("has more than \(PropolisConfig.maximumByteCount) bytes")
      }
      let byteCount = try PropolisConfig.ramByteCount(data)
      guard byteCount == layout.byteCount else {
        throw .invalidData(
          "says that main.memory is \(byteCount >> 20) MiB, and memory/ holds "
            + "\(layout.byteCount) bytes"
        )
      }
    case .global:
      try PropolisDevice.checkGlobal(data)
    case .device:
      var overlays: OverlayDocument?
      for payload in try PropolisDevice.payloads(data)
      where payload.kind == HyperVInterface.propolisKind {
        guard overlays == nil else {
          throw .invalidData("has two payloads \(payload.kind)")
        }
        overlays = try overlayDocument(payload)
      }
      return overlays
    case .directory, .memory:
      break
    }
    return nil
  }
}

extension PropolisArchive {
  private func overlayDocument(
    _ payload: PropolisDevice.Payload
  ) throws(VMCheckpointError) -> OverlayDocument {
    guard payload.version == HyperVInterface.propolisVersion else {
      throw .invalidData(
        "has version \(payload.version) of \(payload.kind); this version of vmckpt reads version "
          + "\(HyperVInterface.propolisVersion)"
      )
    }
    do throws(VMCheckpointError) {
      let interface = try HyperVInterface(propolisJSON: Array(payload.data.utf8))
      try interface.check(layout: layout)
      return try interface.overlayDocument()
    } catch {
      throw VMCheckpointError(
        error.code,
        "has a bad \(payload.kind): \(error.message)",
        hint: error.hint
      )
    }
  }
}

// MARK: - Writing

extension PropolisArchive {
  /// The archive that a snapshot was saved from.
  ///
  /// - Parameter title: What messages call the snapshot.
  /// - Throws: ``VMCheckpointError``: `invalidArgument` when it was saved from something else,
  ///   `corrupt` when what it keeps does not fit together.
  static func form(
    of title: String,
    layout: RAMLayout,
    deviceStates: [DeviceState]
  ) throws(VMCheckpointError) -> RestoredForm {
    guard let headers = deviceStates.first(where: { $0.format == headersFormat }) else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(title) has no state of Propolis, and cannot become a snapshot of it",
        hint: "its RAM alone is written by: --format raw"
      )
    }
    guard headers.version == formatVersion else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(title) has version \(headers.version) of \(headersFormat), which is unknown",
        hint: "use the vmckpt that saved it, or a later one"
      )
    }
    do throws(VMCheckpointError) {
      var skeleton = TarSkeleton(headers.data)
      let archive = try PropolisArchive(TarIndex(reading: &skeleton))
      return try archive.form(layout: layout, deviceStates: deviceStates)
    } catch {
      throw VMCheckpointError(
        .corrupt,
        "\(title) is damaged: its Propolis snapshot \(error.message)",
        hint: "see what else is hurt with: vmckpt verify"
      )
    }
  }

  private func form(
    layout: RAMLayout,
    deviceStates: [DeviceState]
  ) throws(VMCheckpointError) -> RestoredForm {
    guard layout.regions.map(\.gpa) == self.layout.regions.map(\.gpa),
      layout.regions.map(\.byteCount) == self.layout.regions.map(\.byteCount)
    else { throw .invalidData("has other RAM than the snapshot") }
    let states = Dictionary(
      deviceStates.map { ($0.name, $0) },
      uniquingKeysWith: { first, _ in first }
    )
    var parts = index.skeletonParts.map {
      RestoredForm.Part(offset: $0.offset, bytes: $0.bytes)
    }
    for (member, kind) in stateMembers {
      guard let state = states[member.path], state.format == Self.stateFormat(kind),
        UInt64(state.data.count) == member.byteCount
      else { throw .invalidData("lacks its member \(quotedName(member.path))") }
      parts.append(RestoredForm.Part(offset: member.dataOffset, bytes: state.data[...]))
    }
    return RestoredForm(
      placement: placement,
      parts: parts.sorted { $0.offset < $1.offset },
      byteCount: index.byteCount
    )
  }
}
