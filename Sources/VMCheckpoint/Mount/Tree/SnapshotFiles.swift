import GRDB

/// The files in a snapshot's folder, but for the folders of longer names. They are found out once for as long as the
/// kernel may ask for them; a snapshot never changes, except for its tags and relatives.
final class SnapshotFiles: Sendable {
  /// A file or the folder ``MountName/deviceStates``.
  struct File: Sendable {
    enum Contents: Sendable {
      case ram(MountedRAM)
      case bytes(@Sendable (any RestorableGuest) throws -> [UInt8])
      case description
      case folder
    }

    var name: String
    /// Part of its node.
    var number: UInt16
    /// With the kind of file.
    var mode: UInt32
    var byteCount: UInt64
    var contents: Contents
  }

  static let ramNumber: UInt16 = 1
  private static let bareNumber: UInt16 = 2
  private static let overlaysNumber: UInt16 = 3
  static let descriptionNumber: UInt16 = 4
  static let deviceStatesNumber: UInt16 = 5
  private static let formNumbers: Range<UInt16> = 0x10..<0x1000
  private static let deviceStateNumbers: Range<UInt16> = 0x1000..<0xffff

  let snapshot: MountedSnapshot
  /// Pages that are not zero.
  let storedPageCount: UInt64
  let absentPageCount: UInt64
  /// Those right in the folder.
  let files: [File]
  /// Those in ``MountName/deviceStates``.
  let deviceStates: [File]
  private let byNumber: [UInt16: File]
  /// What could not be shown, and why.
  let problems: [String]

  func file(_ number: UInt16) -> File? { byNumber[number] }

  func file(named name: String, inDeviceStates: Bool) -> File? {
    (inDeviceStates ? deviceStates : files).first { $0.name == name }
  }

  /// Reads what is needed of a snapshot.
  ///
  /// - Parameter describe: Makes the contents of ``MountName/description``.
  /// - Throws: ``VMCheckpointError``: `notFound` when it was deleted, `corrupt`.
  init(
    _ store: Store,
    _ snapshot: MountedSnapshot,
    forms: [any MountForm],
    describe: @Sendable (SnapshotDetail) -> [UInt8]
  ) throws(VMCheckpointError) {
    let detail = try store.snapshot(SnapshotReference(snapshot.uuid))
    var files: [File] = []
    var deviceStates: [File] = []
    var problems: [String] = []
    let description = describe(detail)
    (storedPageCount, absentPageCount) = try store.read { database in
      guard let row = try SnapshotCatalog.fetch(id: snapshot.id, in: database),
        row.uuid == snapshot.uuid
      else {
        throw VMCheckpointError(
          .notFound,
          "snapshot \(quotedName(snapshot.name)) was deleted in the meantime"
        )
      }
      let layout = try row.layout(database)
      let absent = try row.absentPages(database, in: layout)
      let overlays = try StoredOverlays(database, snapshot: row, layout: layout)
      try row.requireDigest(layout, absent, overlays, database)
      let flat = RestoredForm(flat: layout)
      func add(_ name: String, _ number: UInt16, _ byteCount: Int, _ contents: File.Contents) {
        files.append(
          File(
            name: name,
            number: number,
            mode: Self.fileMode,
            byteCount: UInt64(byteCount),
            contents: contents
          )
        )
      }
      add(MountName.ram, Self.ramNumber, Int(flat.byteCount), .ram(MountedRAM(flat)))
      add(
        MountName.bareRAM,
        Self.bareNumber,
        Int(flat.byteCount),
        .ram(MountedRAM(flat, view: .bare))
      )
      do {
        let json = try Array(
          RestorePlan.document(overlays, of: row, .apply, database).encodedJSON().utf8
        )
        add(MountName.overlays, Self.overlaysNumber, json.count, .bytes { _ in json })
      } catch let error as VMCheckpointError {
        problems.append("\(row.title) has no \(MountName.overlays) here: \(error.message)")
      }
      add(MountName.description, Self.descriptionNumber, description.count, .description)
      deviceStates = try Self.deviceStates(of: row, database)
      let folder = File(
        name: MountName.deviceStates,
        number: Self.deviceStatesNumber,
        mode: Self.folderMode,
        byteCount: 0,
        contents: .folder
      )
      files.append(folder)
      let guest = PlannedSnapshot(row, layout: layout, absent: absent, database)
      let shown = overlays.active.filter { !$0.isBaked }.map(\.overlay)
      var number = Self.formNumbers.lowerBound
      for form in forms {
        do {
          for file in try form.files(of: guest, showing: shown)
          where number < Self.formNumbers.upperBound {
            files.append(File(file, number))
            number += 1
          }
        } catch let error as VMCheckpointError {
          problems.append("some files of \(row.title) are not shown: \(error.message)")
        }
      }
      return (row.storedPageCount, absent.pageCount)
    }
    self.snapshot = snapshot
    self.files = files
    self.deviceStates = deviceStates
    self.problems = problems
    byNumber = Dictionary(
      (files + deviceStates).map { ($0.number, $0) },
      uniquingKeysWith: { first, _ in first }
    )
  }

  private static func deviceStates(of row: SnapshotRow, _ database: Database) throws -> [File] {
    var found: [File] = []
    var position = 0
    try DeviceStateRow.forEach(of: row, database) { state in
      let index = position
      position += 1
      guard index < deviceStateNumbers.count,
        (0...Int64(DeviceState.maximumByteCount)).contains(state.byteCount)
      else { return }
      let (name, format) = (state.name, state.format)
      found.append(
        File(
          name: PathComponent.of(name) ?? "state.\(index)",
          number: deviceStateNumbers.lowerBound + UInt16(index),
          mode: fileMode,
          byteCount: UInt64(state.byteCount),
          contents: .bytes { guest in
            // Names are unique in a snapshot.
            try (guest as? PlannedSnapshot)?.deviceState(name: name, format: format)?.data ?? []
          }
        )
      )
    }
    return found
  }

  // MARK: Modes

  private static let regular: UInt32 = 0o100000
  static let fileMode: UInt32 = regular | 0o600
  static let scriptMode: UInt32 = regular | 0o500
  static let folderMode: UInt32 = 0o040700
  static let linkMode: UInt32 = 0o120777
}

extension SnapshotFiles.File {
  fileprivate init(_ file: MountFile, _ number: UInt16) {
    name = file.name
    self.number = number
    mode = file.isExecutable ? SnapshotFiles.scriptMode : SnapshotFiles.fileMode
    switch file.contents {
    case .bytes(let count, let load):
      byteCount = UInt64(count)
      contents = .bytes(load)
    case .ram(let ram):
      byteCount = ram.byteCount
      contents = .ram(ram)
    }
  }

  /// Whether opening it takes a lease: VMs may run from it.
  var holdsRAM: Bool {
    if case .ram = contents { return true }
    return false
  }
}

extension PlannedSnapshot {
  /// The device state with this name.
  fileprivate func deviceState(name: String, format: String) throws -> DeviceState? {
    try DeviceStateRow.load(of: snapshot, format: format, named: name, database).first
  }
}
