import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// The paths of snapshots in a mount, and the numbers of its files.
@Suite struct MountTreeTests {
  private func row(_ id: Int64, _ name: String, vm: String = "vm") -> MountedSnapshot {
    MountedSnapshot(
      id: id,
      uuid: "uuid-\(id)",
      name: name,
      vm: vm,
      completedSeconds: UInt64(max(0, id))
    )
  }

  /// The node at a path, by looking up each of its parts.
  private func node(_ tree: MountTree, _ path: String) -> MountNode? {
    path.split(separator: "/").reduce(MountNode.root) { node, name in
      node.flatMap { tree.folder($0)?.item(named: String(name))?.node }
    }
  }

  @Test("no two names have one path, whatever bytes they have")
  func paths() {
    let alphabet = ["a", "ram", ".", "..", "", "~", "%2F", "latest", "ram.0", "é", "e\u{301}"]
    var names: Set<[UInt8]> = []
    var paths: Set<String> = []
    for first in alphabet {
      for second in alphabet {
        for third in alphabet {
          let name = [first, second, third].joined(separator: "/")
          names.insert(Array(name.utf8))
          paths.insert(MountName.components(ofSnapshot: name)!.joined(separator: "/"))
        }
      }
    }
    #expect(paths.count == names.count)
    #expect(paths.allSatisfy { $0.utf8.allSatisfy { $0 < 0x80 } })
    #expect(
      paths.allSatisfy { path in
        path.split(separator: "/", omittingEmptySubsequences: false).allSatisfy {
          !["", ".", ".."].contains($0)
        }
      }
    )
  }

  @Test("numbers of files mean the same in a tree that was made later")
  func numbers() {
    let before = MountTree([row(1, "web/7"), row(2, "web/8")])
    let after = MountTree([row(1, "web/7"), row(5, "web", vm: "other"), row(9, "a")])
    for path in ["by-name", "by-vm", "by-name/web/7", "by-vm/vm", "by-vm/vm/web"] {
      #expect(node(before, path) != nil)
      #expect(node(before, path) == node(after, path), "\(path)")
    }
    // A folder that has become a snapshot's answers to both numbers.
    let old = node(before, "by-name/web")!
    #expect(node(after, "by-name/web") == .snapshot(5))
    #expect(after.snapshot(old)?.id == 5)
    #expect(after.folder(old)?.item(named: "7")?.node == .snapshot(1))
    #expect(after.folder(old)?.item(named: "8") == nil)
    #expect(after.snapshot(.snapshot(2)) == nil)
  }

  @Test("a number and its node are one another's")
  func roundTrips() {
    for node: MountNode in [
      .root, .byName, .byVM, .named((1 << 60) - 1), .named(0), .snapshot(1),
      .snapshot(MountNode.maximumSnapshotID), .file(snapshot: 7, file: 0xffff),
      .file(snapshot: MountNode.maximumSnapshotID, file: 1), MountNode(path: "by-name/web"),
    ] { #expect(MountNode(node.number) == node) }
    for number: UInt64 in [0, 4, 3 << 60, .max] { #expect(MountNode(number) == nil) }
  }

  @Test("rows that no store of this program has are left out, not fatal")
  func hostile() {
    let tree = MountTree([
      row(-5, "negative"), row(0, "zero"), row(.max, "huge"),
      row(1, String(repeating: "é", count: 255)),
      row(2, "ok"),
    ])
    #expect(tree.folder(.byName)?.items.map(\.name) == ["ok"])
  }

  @Test("an entry's place in its folder depends on its name alone")
  func cookies() {
    let few = MountTree([row(1, "a"), row(2, "b")]).folder(.byName)!
    let many = MountTree((1...500).map { row($0, "n\($0)") } + [row(501, "a"), row(502, "b")])
      .folder(.byName)!
    for item in few.items { #expect(many.item(named: item.name)?.cookie == item.cookie) }
    #expect(zip(many.items, many.items.dropFirst()).allSatisfy { $0.cookie < $1.cookie })
    #expect(many.items.allSatisfy { $0.cookie > 2 && $0.cookie <= UInt64(Int64.max) })
  }
}
