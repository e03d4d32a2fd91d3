package import VMCheckpoint

/// Puts overlays in the places of disks in a command line.
///
/// An overlay knows its base and the base's format. So the option that opens the disk gets the overlay's path and the
/// format `qcow2`; its names stay, by which devices and monitors know it. What could mean something else for an
/// overlay than it did for the disk is refused, and not guessed.
package struct QEMUDiskReplacement {
  private var commandLine: QEMUCommandLine
  /// The items that an overlay has taken.
  private var taken: Set<Int> = []
  private var removed: Set<Int> = []

  /// `commandLine` with an overlay for each disk.
  ///
  /// - Parameter overlays: Each disk with the path of its overlay.
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument` when a disk's option cannot be changed safely.
  package static func replacing(
    _ overlays: [DiskOverlay],
    in commandLine: QEMUCommandLine
  ) throws(VMCheckpointError) -> QEMUCommandLine {
    var replacement = QEMUDiskReplacement(commandLine: commandLine)
    for overlay in overlays { try replacement.replace(overlay) }
    var result = replacement.commandLine
    result.items = result.items.enumerated().filter { !replacement.removed.contains($0.offset) }
      .map(\.element)
    return result
  }

  private init(commandLine: QEMUCommandLine) {
    self.commandLine = commandLine
  }

  /// Options that change others, from within or from a file.
  private static let changingOptions: Set<String> = ["set", "readconfig", "snapshot"]
  /// Options whose whole value is the path of a disk, which QEMU finds the format of.
  private static let pathOptions: Set<String> = [
    "hda", "hdb", "hdc", "hdd", "fda", "fdb", "sd", "mtdblock", "pflash",
  ]

  private mutating func replace(_ overlay: DiskOverlay) throws(VMCheckpointError) {
    let disk = overlay.disk
    try disk.requireOverlay()
    if let changing = commandLine.items.first(where: {
      $0.option.map(Self.changingOptions.contains) == true
    }) {
      throw disk.noOverlay("the command line has \(quotedName(changing.words[0]))")
    }
    let places = commandLine.items.indices.filter { opens($0, disk) }
    guard places.count == 1, let index = places.first, taken.insert(index).inserted else {
      throw disk.noOverlay(
        places.isEmpty
          ? "no option of the command line opens it that is understood"
          : "more than one option of the command line seems to open it"
      )
    }
    let item = commandLine.items[index]
    switch item.option {
    case "drive":
      commandLine.items[index] = item.replacing(value: try drive(item.value!, overlay))
    case "blockdev":
      commandLine.items[index] = item.replacing(value: try node(item.value!, overlay, at: index))
    default:
      commandLine.items[index] = item.replacing(value: overlay.path)
    }
  }

  /// Whether an option opens the disk's image for its device.
  private func opens(_ index: Int, _ disk: RecordedDisk) -> Bool {
    let item = commandLine.items[index]
    guard let option = item.option, let value = item.value else { return false }
    let name = disk.images[0].name
    switch option {
    case "drive":
      let members = QEMUOptionText.members(value)
      if let id = members["id"] { return !disk.device.isEmpty && Self.same(id, disk.device) }
      return !disk.device.isEmpty && members["file"].map { Self.same($0, name) } == true
    case "blockdev":
      guard let node = Self.object(value) else { return false }
      return disk.device.isEmpty
        && (node["node-name"] as? String).map { Self.same($0, disk.node) } == true
    default:
      return Self.pathOptions.contains(option) && !disk.device.isEmpty && Self.same(value, name)
    }
  }

  /// Swift's `==` takes different bytes for equal where Unicode calls them equivalent.
  private static func same(_ first: String, _ second: String) -> Bool {
    first.utf8.elementsEqual(second.utf8)
  }

  // MARK: -drive

  /// Members of `-drive` that mean the same for every image.
  private static let driveMembers: Set<String> = [
    "if", "id", "index", "bus", "unit", "media", "cache", "cache.direct", "cache.writeback",
    "cache.no-flush", "aio", "discard", "detect-zeroes", "werror", "rerror", "node-name",
    "copy-on-read", "stats-account-invalid", "stats-account-failed",
  ]
  /// Members that the overlay has others of.
  private static let driveImageMembers: Set<String> = ["file", "format", "driver"]

  private func drive(
    _ value: String,
    _ overlay: DiskOverlay
  ) throws(VMCheckpointError) -> String {
    let name = overlay.disk.images[0].name
    var kept: [String] = []
    var hasFile = false
    for part in QEMUOptionText.parts(value) {
      guard let (member, memberValue) = QEMUOptionText.member(part) else {
        throw overlay.disk.noOverlay("its -drive has \(quotedName(part))")
      }
      if Self.driveImageMembers.contains(member) {
        guard member != "file" || (!hasFile && Self.same(memberValue, name)) else {
          throw overlay.disk.noOverlay("its -drive names \(quotedName(memberValue))")
        }
        hasFile = hasFile || member == "file"
        continue
      }
      let isHarmless =
        Self.driveMembers.contains(member) || member.hasPrefix("throttling.")
        || ["readonly", "read-only", "snapshot"].contains(member) && memberValue == "off"
      guard isHarmless else { throw overlay.disk.noOverlay("its -drive has \(quotedName(part))") }
      kept.append(part)
    }
    guard hasFile else { throw overlay.disk.noOverlay("its -drive names no file") }
    return (["file=\(overlay.path)", "format=qcow2"] + kept).map(QEMUOptionText.escapingCommas)
      .joined(separator: ",")
  }

  // MARK: -blockdev

  /// Members of a node that mean the same for every image.
  private static let nodeMembers: Set<String> = [
    "node-name", "cache", "discard", "detect-zeroes",
  ]
  /// Members that the overlay has others of.
  private static let nodeImageMembers: Set<String> = [
    "driver", "file", "backing", "read-only", "auto-read-only", "filename",
  ]
  /// Members of the node of the file, which the overlay's file goes on having.
  private static let fileMembers: Set<String> = ["aio", "cache", "discard"]
  private static let fileImageMembers: Set<String> = [
    "driver", "filename", "node-name", "read-only", "auto-read-only", "detect-zeroes",
  ]

  /// A node in JSON: its own members, with the overlay for its image.
  private mutating func node(
    _ value: String,
    _ overlay: DiskOverlay,
    at index: Int
  ) throws(VMCheckpointError) -> String {
    let disk = overlay.disk
    guard let node = Self.object(value) else {
      throw disk.noOverlay("its -blockdev cannot be read")
    }
    // A device may use the node of the file itself.
    let isFile = node["driver"] as? String == "file"
    var file = node
    if !isFile {
      switch node["file"] {
      case let object as [String: Any]: file = object
      case let name as String: file = try fileNode(name, of: disk, usedBy: index)
      default: throw disk.noOverlay("its -blockdev names no file")
      }
    }
    guard file["driver"] as? String == "file", let name = file["filename"] as? String,
      Self.same(name, disk.images[0].name)
    else { throw disk.noOverlay("its -blockdev opens something else than that file") }
    var result: [String: Any] = ["driver": "qcow2"]
    for (member, memberValue) in node {
      if Self.nodeMembers.contains(member) {
        result[member] = memberValue
      } else if !Self.nodeImageMembers.contains(member), !(isFile && member == "aio") {
        throw disk.noOverlay("its -blockdev has \(quotedName(member))")
      }
    }
    var overlayFile: [String: Any] = ["driver": "file", "filename": overlay.path]
    for (member, memberValue) in file where Self.fileMembers.contains(member) {
      overlayFile[member] = memberValue
    }
    if !isFile,
      let other = file.keys.first(where: {
        !Self.fileMembers.contains($0) && !Self.fileImageMembers.contains($0)
      })
    {
      throw disk.noOverlay("the -blockdev of its file has \(quotedName(other))")
    }
    result["file"] = overlayFile
    return QEMUOptionText.text(result, asJSON: QEMUOptionText.json(value) != nil)
  }

  /// The node of the file that a format's node names, which goes: the base opens its file itself.
  private mutating func fileNode(
    _ name: String,
    of disk: RecordedDisk,
    usedBy user: Int
  ) throws(VMCheckpointError) -> [String: Any] {
    let places = commandLine.items.indices.filter { index in
      let item = commandLine.items[index]
      return item.option == "blockdev"
        && (item.value.flatMap(Self.object)?["node-name"] as? String).map { Self.same($0, name) }
          == true
    }
    guard places.count == 1, let index = places.first,
      let node = commandLine.items[index].value.flatMap(Self.object)
    else { throw disk.noOverlay("the -blockdev of its file is not in the command line") }
    // Whoever else names it would not find it.
    let isUsed = commandLine.items.indices.contains { other in
      other != index && other != user && !removed.contains(other)
        && commandLine.items[other].words.contains { Self.mentions($0, name) }
    }
    guard !isUsed else {
      throw disk.noOverlay("another option uses the node \(quotedName(name)) too")
    }
    removed.insert(index)
    return node
  }

  /// Whether a word has `name` between what cannot be in a name of QEMU's.
  private static func mentions(_ word: String, _ name: String) -> Bool {
    let marks = Set("-._#".utf8)
    func isPart(_ byte: UInt8) -> Bool {
      marks.contains(byte) || (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte & 0xdf)
    }
    return word.utf8.split(whereSeparator: { !isPart($0) }).contains { $0.elementsEqual(name.utf8) }
  }

  private static func object(_ value: String) -> [String: Any]? {
    QEMUOptionText.object(value, firstName: "driver")
  }
}
