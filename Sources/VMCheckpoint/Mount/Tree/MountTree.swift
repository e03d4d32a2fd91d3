import Algorithms

/// A snapshot as a mount's folders know it.
package struct MountedSnapshot: Hashable, Sendable {
  /// Its row number, which is never given again.
  package var id: Int64
  package var uuid: String
  package var name: String
  package var vm: String
  /// When it was complete, in seconds since 1970.
  package var completedSeconds: UInt64

  package init(id: Int64, uuid: String, name: String, vm: String, completedSeconds: UInt64) {
    self.id = id
    self.uuid = uuid
    self.name = name
    self.vm = vm
    self.completedSeconds = completedSeconds
  }
}

/// The folders and links of a mount that names make. What is in a snapshot's folder beside the folders of longer
/// names is in ``SnapshotFiles``.
///
///     by-name/web/ram         a file of the snapshot web
///     by-name/web/7/ram       and of the snapshot web/7
///     by-vm/web/web/7         a link to ../../../by-name/web/7
///     by-vm/web/latest, latest
///
/// The folder of a name that is also the beginning of others has both: the snapshot's files and their folders.
package struct MountTree: Sendable {
  /// What is in a folder under a name.
  package struct Item: Hashable, Sendable {
    package var name: String
    package var node: MountNode
    /// Where a link leads; `nil`: this is a folder.
    package var target: String?
    package var timeSeconds: UInt64
    /// ``MountNode/cookie(of:)``.
    package var cookie: UInt64

    package init(_ name: String, _ node: MountNode, target: String? = nil, timeSeconds: UInt64) {
      self.name = name
      self.node = node
      self.target = target
      self.timeSeconds = timeSeconds
      cookie = MountNode.cookie(of: name)
    }
  }

  /// A folder's items, in ascending order of their cookies.
  package struct Folder: Sendable {
    package private(set) var items: [Item]
    private let indexes: [String: Int]
    /// That of the newest snapshot below.
    package var timeSeconds: UInt64

    init(_ items: [Item]) {
      self.items = items.sorted { $0.cookie < $1.cookie }
      indexes = Dictionary(
        self.items.enumerated().map { ($1.name, $0) },
        uniquingKeysWith: { first, _ in first }
      )
      timeSeconds = items.map(\.timeSeconds).max() ?? 0
    }

    /// The items behind a cookie.
    ///
    /// - Complexity: O(log *n*).
    package func items(after cookie: UInt64) -> ArraySlice<Item> {
      items[items.partitioningIndex { $0.cookie > cookie }...]
    }

    package func item(named name: String) -> Item? { indexes[name].map { items[$0] } }
  }

  /// By row number.
  package let snapshots: [Int64: MountedSnapshot]
  private var folders: [MountNode: Folder] = [:]
  private var links: [MountNode: Item] = [:]
  /// Folders that have become a snapshot's since the kernel learned their numbers.
  private var aliases: [MountNode: MountNode] = [:]

  /// - Parameter rows: In ascending order of their numbers. What has no path is left out.
  package init(_ rows: [MountedSnapshot]) {
    var snapshots: [Int64: MountedSnapshot] = [:]
    let names = Branch()
    let vms = Branch()
    var newest: (path: String, timeSeconds: UInt64)?
    var newestOfVM: [String: (path: String, timeSeconds: UInt64)] = [:]
    for row in rows where (1...MountNode.maximumSnapshotID).contains(row.id) {
      guard let components = MountName.components(ofSnapshot: row.name),
        let linkComponents = MountName.linkComponents(ofSnapshot: row.name),
        let vm = PathComponent.of(row.vm)
      else { continue }
      snapshots[row.id] = row
      let path = components.joined(separator: "/")
      names.descend(components).leaf = (row, path)
      vms.descend([vm] + linkComponents).leaf = (row, path)
      newest = (path, row.completedSeconds)
      newestOfVM[vm] = newest
    }
    self.snapshots = snapshots
    addNames(names, at: MountName.byName, as: .byName)
    addLinks(vms, at: MountName.byVM, as: .byVM, depth: 1) { vm in newestOfVM[vm] }
    var root = [
      Item(MountName.byName, .byName, timeSeconds: folders[.byName]?.timeSeconds ?? 0),
      Item(MountName.byVM, .byVM, timeSeconds: folders[.byVM]?.timeSeconds ?? 0),
    ]
    if let newest {
      root.append(
        link(MountName.latest, to: newest.path, depth: 0, newest.timeSeconds, MountName.latest)
      )
    }
    folders[.root] = Folder(root)
  }

  /// What there is at a folder's node. That of a snapshot has the folders of longer names only.
  package func folder(_ node: MountNode) -> Folder? { folders[aliases[node] ?? node] }

  /// The snapshot whose folder the node is.
  package func snapshot(_ node: MountNode) -> MountedSnapshot? {
    guard case .snapshot(let id) = aliases[node] ?? node else { return nil }
    return snapshots[id]
  }

  package func link(_ node: MountNode) -> Item? { links[node] }

  // MARK: Making it

  /// Names with a common beginning.
  private final class Branch {
    var children: [String: Branch] = [:]
    var leaf: (snapshot: MountedSnapshot, path: String)?

    func descend(_ components: [String]) -> Branch {
      var branch = self
      for component in components {
        if let next = branch.children[component] {
          branch = next
        } else {
          let next = Branch()
          branch.children[component] = next
          branch = next
        }
      }
      return branch
    }
  }

  private mutating func addNames(_ branch: Branch, at path: String, as node: MountNode) {
    var items: [Item] = []
    for (name, child) in branch.children {
      let childPath = "\(path)/\(name)"
      let named = MountNode(path: childPath)
      var node = named
      if let leaf = child.leaf {
        node = .snapshot(leaf.snapshot.id)
        aliases[named] = node
      }
      addNames(child, at: childPath, as: node)
      items.append(
        Item(
          name,
          node,
          timeSeconds: child.leaf?.snapshot.completedSeconds ?? folders[node]?.timeSeconds ?? 0
        )
      )
    }
    folders[node] = Folder(items)
  }

  /// - Parameter depth: How many folders are above the items.
  private mutating func addLinks(
    _ branch: Branch,
    at path: String,
    as node: MountNode,
    depth: Int,
    newest: (String) -> (path: String, timeSeconds: UInt64)?
  ) {
    var items: [Item] = []
    for (name, child) in branch.children {
      let childPath = "\(path)/\(name)"
      if let leaf = child.leaf {
        // A link is not a folder too.
        let linkName = child.children.isEmpty ? name : name + "~"
        items.append(
          link(
            linkName,
            to: leaf.path,
            depth: depth,
            leaf.snapshot.completedSeconds,
            "\(path)/\(linkName)"
          )
        )
      }
      guard !child.children.isEmpty else { continue }
      let folder = MountNode(path: childPath)
      addLinks(child, at: childPath, as: folder, depth: depth + 1) { _ in nil }
      if let latest = newest(name) {
        var items = folders[folder]?.items ?? []
        items.append(
          link(
            MountName.latest,
            to: latest.path,
            depth: depth + 1,
            latest.timeSeconds,
            "\(childPath)/\(MountName.latest)"
          )
        )
        folders[folder] = Folder(items)
      }
      items.append(Item(name, folder, timeSeconds: folders[folder]?.timeSeconds ?? 0))
    }
    folders[node] = Folder(items)
  }

  private mutating func link(
    _ name: String,
    to path: String,
    depth: Int,
    _ timeSeconds: UInt64,
    _ place: String
  ) -> Item {
    let target =
      String(repeating: "../", count: depth) + "\(MountName.byName)/\(path)"
    let item = Item(name, MountNode(path: place), target: target, timeSeconds: timeSeconds)
    links[item.node] = item
    return item
  }
}
