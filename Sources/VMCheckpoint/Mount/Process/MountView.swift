/// What the folders of a mount show, and what the kernel is told of each file.
final class MountView: Sendable {
  /// For how long names may be taken for what they were: snapshots come and go.
  private static let changingSeconds: UInt64 = 1
  private static let lastingSeconds: UInt64 = 1 << 30

  let owner: FUSEOwner
  private let allowsOthers: Bool
  private let catalog: MountCatalog
  private let contents: MountContents

  init(_ settings: MountMemory.Settings, _ catalog: MountCatalog, _ contents: MountContents) {
    owner = FUSEOwner(user: settings.user, group: settings.group)
    allowsOthers = settings.allowsOthers
    self.catalog = catalog
    self.contents = contents
  }

  /// How many snapshots are shown.
  var snapshotCount: Int { catalog.tree.snapshots.count }

  /// Where a link leads; `nil` when the node is not one.
  func target(ofLink node: MountNode) -> String? { catalog.tree.link(node)?.target }

  private func mode(_ mode: UInt32) -> UInt32 {
    guard allowsOthers else { return mode }
    switch mode {
    // QEMU opens RAM for writing, and every write is refused.
    case SnapshotFiles.fileMode: return mode | 0o066
    case SnapshotFiles.scriptMode: return mode | 0o055
    default: return mode | 0o055
    }
  }

  private func folderAttributes(
    _ node: MountNode,
    timeSeconds: UInt64,
    isLasting: Bool = false
  ) -> FUSEAttributes {
    var attributes = FUSEAttributes(
      node: node.number,
      mode: mode(SnapshotFiles.folderMode),
      validSeconds: isLasting ? Self.lastingSeconds : Self.changingSeconds,
      entryValidSeconds: isLasting ? Self.lastingSeconds : Self.changingSeconds
    )
    attributes.timeSeconds = timeSeconds
    return attributes
  }

  private func attributes(_ item: MountTree.Item) -> FUSEAttributes {
    guard let target = item.target else {
      return folderAttributes(item.node, timeSeconds: item.timeSeconds)
    }
    var attributes = FUSEAttributes(
      node: item.node.number,
      mode: SnapshotFiles.linkMode,
      validSeconds: Self.changingSeconds,
      entryValidSeconds: Self.changingSeconds
    )
    attributes.byteCount = UInt64(target.utf8.count)
    attributes.timeSeconds = item.timeSeconds
    return attributes
  }

  private func attributes(
    _ file: SnapshotFiles.File,
    _ files: SnapshotFiles
  ) -> FUSEAttributes {
    let node = MountNode.file(snapshot: files.snapshot.id, file: file.number)
    guard file.number != SnapshotFiles.deviceStatesNumber else {
      return folderAttributes(
        node,
        timeSeconds: files.snapshot.completedSeconds,
        isLasting: true
      )
    }
    // Tags and relatives change.
    let isChanging = file.number == SnapshotFiles.descriptionNumber
    var attributes = FUSEAttributes(
      node: node.number,
      mode: mode(file.mode),
      validSeconds: isChanging ? 0 : Self.lastingSeconds,
      entryValidSeconds: Self.lastingSeconds
    )
    attributes.byteCount = file.byteCount
    attributes.blockCount =
      file.holdsRAM
      ? min(files.storedPageCount << 3, file.byteCount >> 9) : (file.byteCount + 511) >> 9
    attributes.timeSeconds = files.snapshot.completedSeconds
    return attributes
  }

  /// The snapshot whose folder, or file, the node is, and its files.
  private func files(
    _ id: Int64
  ) throws(VMCheckpointError) -> SnapshotFiles? {
    guard let snapshot = catalog.snapshot(id) else { return nil }
    return try contents.files(of: snapshot)
  }

  /// What is in a folder under a name; `nil`: nothing.
  func lookUp(
    _ name: String,
    in node: MountNode
  ) throws(VMCheckpointError) -> FUSEAttributes? {
    let tree = catalog.tree
    if case .file(let id, SnapshotFiles.deviceStatesNumber) = node {
      guard let files = try files(id), let file = files.file(named: name, inDeviceStates: true)
      else { return nil }
      return attributes(file, files)
    }
    if let snapshot = tree.snapshot(node) {
      let files = try contents.files(of: snapshot)
      if let file = files.file(named: name, inDeviceStates: false) {
        return attributes(file, files)
      }
    }
    return tree.folder(node)?.item(named: name).map { attributes($0) }
  }

  /// What there is at a node; `nil`: nothing any more.
  func attributes(of node: MountNode) throws(VMCheckpointError) -> FUSEAttributes? {
    let tree = catalog.tree
    switch node {
    case .root, .byName, .byVM:
      return folderAttributes(node, timeSeconds: tree.folder(node)?.timeSeconds ?? 0)
    case .named:
      if let link = tree.link(node) { return attributes(link) }
      return tree.folder(node).map { folderAttributes(node, timeSeconds: $0.timeSeconds) }
    case .snapshot(let id):
      return tree.snapshots[id].map {
        folderAttributes(node, timeSeconds: $0.completedSeconds)
      }
    case .file(let id, let number):
      guard let files = try files(id) else { return nil }
      if number == SnapshotFiles.deviceStatesNumber {
        return folderAttributes(
          node,
          timeSeconds: files.snapshot.completedSeconds,
          isLasting: true
        )
      }
      return files.file(number).map { attributes($0, files) }
    }
  }

  // MARK: Folders

  typealias Entry = (name: String, cookie: UInt64, attributes: FUSEAttributes)

  /// What is in a folder behind a cookie, in ascending order; `nil` when it is not one, or gone.
  ///
  /// - Parameter limit: Room for the entries. There may be more than fit, but not all that are in a large folder.
  func entries(
    of node: MountNode,
    after cookie: UInt64,
    limit: Int
  ) throws(VMCheckpointError) -> [Entry]? {
    let tree = catalog.tree
    func entries(_ found: [SnapshotFiles.File], _ files: SnapshotFiles) -> [Entry] {
      found.map { ($0.name, MountNode.cookie(of: $0.name), attributes($0, files)) }
        .filter { $0.1 > cookie }.sorted { $0.1 < $1.1 }
    }
    if case .file(let id, SnapshotFiles.deviceStatesNumber) = node {
      guard let files = try files(id) else { return nil }
      return entries(files.deviceStates, files)
    }
    let folder = tree.folder(node)
    // An entry takes 32 bytes or more. So of these and the files together, only such fit as are the first of both;
    // a few may have a file's name.
    let below: [Entry] =
      folder?.items(after: cookie).prefix(limit / 32 + 64)
      .map { ($0.name, $0.cookie, attributes($0)) } ?? []
    guard let snapshot = tree.snapshot(node) else { return folder == nil ? nil : below }
    let files = try contents.files(of: snapshot)
    let own = entries(files.files, files)
    let names = Set(files.files.map(\.name))
    return (own + below.filter { !names.contains($0.0) }).sorted { $0.1 < $1.1 }
  }

  /// Appends the entries behind a cookie, as far as there is room.
  func append(
    _ entries: [Entry],
    from offset: UInt64,
    limit: Int,
    _ withAttributes: Bool,
    to reply: inout FUSEReply
  ) {
    var dots = FUSEAttributes(
      node: MountNode.root.number,
      mode: SnapshotFiles.folderMode,
      validSeconds: 0,
      entryValidSeconds: 0
    )
    dots.byteCount = 0
    for (name, cookie) in [(".", UInt64(1)), ("..", 2)] where cookie > offset {
      guard
        reply.appendDirectoryEntry(
          name,
          dots,
          cookie: cookie,
          withAttributes: withAttributes,
          isListed: false,
          owner,
          limit: limit
        )
      else { return }
    }
    for entry in entries where entry.cookie > offset {
      guard
        reply.appendDirectoryEntry(
          entry.name,
          entry.attributes,
          cookie: entry.cookie,
          withAttributes: withAttributes,
          isListed: true,
          owner,
          limit: limit
        )
      else { return }
    }
  }

  /// The file at a node; `nil`: none, or none any more.
  func file(
    _ node: MountNode
  ) throws(VMCheckpointError) -> (file: SnapshotFiles.File, files: SnapshotFiles)? {
    guard case .file(let id, let number) = node, let files = try files(id),
      let file = files.file(number)
    else { return nil }
    return (file, files)
  }
}
