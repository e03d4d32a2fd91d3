/// A mounted file system in one of a guest's mount namespaces.
package struct GuestMount {
  package var namespace: UInt64
  package var id: Int64?
  package var parent: Int64?
  /// `major:minor`.
  package var device: String?
  /// The mounted directory, in its own file system.
  package var root: String?
  /// Where it is mounted, as the namespace's first process sees it.
  package var mountPoint: String?
  package var source: String?
  package var type: String?
  /// Whether the mount or its file system refuses writing.
  package var isReadOnly: Bool?
  /// Whether the namespace's first process reaches it from its root directory.
  package var isReachable: Bool?
  package var note: String?
}

extension GuestKernel {
  private static let mountLimit = 20_000
  /// MNT_READONLY and SB_RDONLY.
  private static let readOnlyMount: UInt64 = 0x40
  private static let readOnlyFileSystem: UInt64 = 1

  /// A mount namespace, and the root directory of its process with the lowest PID.
  private struct MountNamespace {
    var address: UInt64
    var number: UInt64
    var firstPID: Int64
    var root: Location?
  }

  /// The mounts in the namespaces of all processes.
  package func mounts() throws -> [GuestMount] {
    var mounts: [GuestMount] = []
    let namespaces = try mountNamespaces()
    let listNotes = takeNotes()
    for namespace in namespaces {
      let objects: [UInt64]
      do {
        objects = try self.mounts(of: namespace.address)
      } catch let fault as GuestFault {
        note("mount namespace at \(hexString(namespace.address)): \(fault)")
        objects = []
      }
      if let listNotes = takeNotes() {
        mounts.append(GuestMount(namespace: namespace.number, note: listNotes))
      }
      for object in objects {
        var mount = GuestMount(namespace: namespace.number)
        do {
          guard try fill(&mount, at: object, in: namespace) else { continue }
        } catch let fault as GuestFault {
          note("mount at \(hexString(object)): \(fault)")
        }
        mount.note = takeNotes()
        mounts.append(mount)
      }
    }
    if let listNotes { note(listNotes) }
    return mounts.sorted { ($0.namespace, $0.id ?? .max) < ($1.namespace, $1.id ?? .max) }
  }

  private func mountNamespaces() throws -> [MountNamespace] {
    var namespaces: [UInt64: MountNamespace] = [:]
    for (pid, task) in try leaders() {
      do {
        let proxy = try u64(task, "task_struct", "nsproxy")
        // A process that has ended has none.
        guard proxy != 0 else { continue }
        let address = try u64(proxy, "nsproxy", "mnt_ns")
        if let known = namespaces[address], known.firstPID <= pid { continue }
        namespaces[address] = MountNamespace(
          address: address,
          number: try namespaceNumber(address, "mnt_namespace"),
          firstPID: pid,
          root: try rootDirectory(ofTask: task)
        )
      } catch let fault as GuestFault {
        note("namespaces of process \(pid): \(fault)")
      }
    }
    return namespaces.values.sorted { $0.number < $1.number }
  }

  /// The `struct mount`s of a namespace.
  private func mounts(of namespace: UInt64) throws -> [UInt64] {
    // A tree from 6.8 on; before, a list, and `mounts` is how many.
    guard has("mount", "mnt_node"), try field("mnt_namespace", "mounts").byteCount == 8 else {
      let head = try address(namespace, "mnt_namespace", "list")
      return try ring(head, limit: Self.mountLimit, "mounts").map {
        try container($0, "mount", "mnt_list")
      }
    }
    var found: [UInt64] = []
    var seen: Set<UInt64> = []
    var waiting = [try u64(namespace, "mnt_namespace", "mounts.rb_node")]
    while let node = waiting.popLast() {
      guard node != 0 else { continue }
      guard seen.insert(node).inserted, found.count < Self.mountLimit else {
        note("the tree of mounts has no end")
        break
      }
      do {
        waiting.append(try u64(node, "rb_node", "rb_left"))
        waiting.append(try u64(node, "rb_node", "rb_right"))
        found.append(try container(node, "mount", "mnt_node"))
      } catch let fault as GuestFault {
        note("the tree of mounts is torn: \(fault)")
      }
    }
    return found
  }

  /// - Returns: `false` where the object marks how far a reader of /proc has come.
  private func fill(
    _ mount: inout GuestMount,
    at object: UInt64,
    in namespace: MountNamespace
  ) throws -> Bool {
    guard try u64(object, "mount", "mnt_ns") == namespace.address else { return false }
    mount.id = Int64(try s32(address(object, "mount", "mnt_id")))
    try attempt("the parent") {
      mount.parent = Int64(try s32(address(u64(object, "mount", "mnt_parent"), "mount", "mnt_id")))
    }
    try attempt("the file system") { try fillFileSystem(&mount, at: object) }
    try attempt("the source") {
      let source = try u64(object, "mount", "mnt_devname")
      mount.source = source == 0 ? "none" : try string(source, limit: Self.nameByteLimit)
    }
    try attempt("the path") {
      let root = try u64(object, "mount", "mnt.mnt_root")
      mount.root = try pathInFileSystem(root)
      let place = try path(Location(mount: object, dentry: root), root: namespace.root)
      mount.mountPoint = place.path
      mount.isReachable = place.isReachable
    }
    return true
  }

  private func fillFileSystem(_ mount: inout GuestMount, at object: UInt64) throws {
    let fileSystem = try u64(object, "mount", "mnt.mnt_sb")
    let device = try u64(fileSystem, "super_block", "s_dev") & 0xffff_ffff
    mount.device = "\(device >> 20):\(device & 0xf_ffff)"
    mount.isReadOnly =
      try u64(object, "mount", "mnt.mnt_flags") & Self.readOnlyMount != 0
      || u64(fileSystem, "super_block", "s_flags") & Self.readOnlyFileSystem != 0
    let kind = try u64(fileSystem, "super_block", "s_type")
    var type = try string(u64(kind, "file_system_type", "name"), limit: 64)
    if has("super_block", "s_subtype") {
      let subtype = try u64(fileSystem, "super_block", "s_subtype")
      if subtype != 0 { type += "." + (try string(subtype, limit: 64)) }
    }
    mount.type = type
  }
}
