/// Paths of files, as the kernel shows them in /proc.
extension GuestKernel {
  static let pathDepthLimit = 256
  static let nameByteLimit = 4096

  /// A place in the guest's mounts: a `struct mount` and a dentry.
  package struct Location: Hashable {
    package var mount: UInt64
    package var dentry: UInt64

    package init(mount: UInt64, dentry: UInt64) {
      self.mount = mount
      self.dentry = dentry
    }
  }

  /// The location in a `struct path`.
  package func location(_ path: UInt64) throws -> Location {
    Location(
      mount: try container(u64(path, "path", "mnt"), "mount", "mnt"),
      dentry: try u64(path, "path", "dentry")
    )
  }

  /// The name of a dentry in its directory.
  package func name(ofDentry dentry: UInt64) throws -> String {
    // Renamed in 7.x.
    let name = try address(dentry, "dentry", "d_name", or: "__d_name")
    let count = try u64(name, "qstr", "len") & 0xffff_ffff
    guard count <= UInt64(Self.nameByteLimit) else {
      throw GuestFault.broken("a file's name has \(count) bytes")
    }
    return GuestText.escaped(try bytes(u64(name, "qstr", "name"), count: Int(count)))
  }

  /// The root directory that a task sees; `nil` when it has none, as a task that has ended.
  package func rootDirectory(ofTask task: UInt64) throws -> Location? {
    let fs = try u64(task, "task_struct", "fs")
    guard fs != 0 else { return nil }
    return try location(address(fs, "fs_struct", "root"))
  }

  /// The path to a location, as a task with the root directory `root` sees it, and whether it is below that.
  package func path(
    _ location: Location,
    root: Location?
  ) throws -> (path: String, isReachable: Bool) {
    var place = location
    var names: [String] = []
    var isReachable = false
    for step in 0... {
      guard step < 2 * Self.pathDepthLimit, names.count <= Self.pathDepthLimit else {
        throw GuestFault.broken("a path has no end")
      }
      if place == root {
        isReachable = true
        break
      }
      let parent = try u64(place.dentry, "dentry", "d_parent")
      if place.dentry == (try u64(place.mount, "mount", "mnt.mnt_root")) {
        let above = try u64(place.mount, "mount", "mnt_parent")
        if above == place.mount { break }
        place = Location(mount: above, dentry: try u64(place.mount, "mount", "mnt_mountpoint"))
        continue
      }
      if parent == place.dentry { break }
      names.append(try name(ofDentry: place.dentry))
      place.dentry = parent
    }
    var path = "/" + names.reversed().joined(separator: "/")
    // Unhashed, and not a root: no directory has it any more.
    if try u64(location.dentry, "dentry", "d_hash.pprev") == 0,
      try u64(location.dentry, "dentry", "d_parent") != location.dentry
    {
      path += " (deleted)"
    }
    return (path, isReachable)
  }

  /// The path of a dentry within its own file system.
  package func pathInFileSystem(_ dentry: UInt64) throws -> String {
    var dentry = dentry
    var names: [String] = []
    while true {
      let parent = try u64(dentry, "dentry", "d_parent")
      if parent == dentry { break }
      guard names.count < Self.pathDepthLimit else { throw GuestFault.broken("a path has no end") }
      names.append(try name(ofDentry: dentry))
      dentry = parent
    }
    return "/" + names.reversed().joined(separator: "/")
  }

  /// What /proc shows as the path in a `struct path` to those whose root directory is their mount namespace's: of
  /// pipes, sockets and the like, their kind and number.
  package func shownPath(_ path: UInt64) throws -> String {
    let location = try location(path)
    let operations = try u64(location.dentry, "dentry", "d_op")
    let function = operations == 0 ? 0 : try u64(operations, "dentry_operations", "d_dname")
    if function != 0, try !isRoot(location) {
      func inodeNumber() throws -> UInt64 {
        try u64(u64(location.dentry, "dentry", "d_inode"), "inode", "i_ino")
      }
      switch symbols.name(at: function) {
      case "pipefs_dname": return "pipe:[\(try inodeNumber())]"
      case "sockfs_dname": return "socket:[\(try inodeNumber())]"
      case "ns_dname":
        return "\(try nameOfNamespace(dentry: location.dentry)):[\(try inodeNumber())]"
      case "pidfs_dname": return "anon_inode:[pidfd]"
      case "anon_inodefs_dname": return "anon_inode:" + (try name(ofDentry: location.dentry))
      case "simple_dname": return "/" + (try name(ofDentry: location.dentry)) + " (deleted)"
      default: break
      }
    }
    return try self.path(location, root: nil).path
  }

  /// Whether it is the root of a mounted file system, which has no name of its own.
  private func isRoot(_ location: Location) throws -> Bool {
    guard try u64(location.dentry, "dentry", "d_parent") == location.dentry else { return false }
    return try u64(location.mount, "mount", "mnt.mnt_root") == location.dentry
  }

  /// The kind of a namespace that is open as a file, such as `net`.
  private func nameOfNamespace(dentry: UInt64) throws -> String {
    let namespace = try u64(u64(dentry, "dentry", "d_inode"), "inode", "i_private")
    let operations = try u64(namespace, "ns_common", "ops")
    return try string(u64(operations, "proc_ns_operations", "name"), limit: 32)
  }

  /// What /proc shows as the path of a `struct file`.
  package func shownPath(ofFile file: UInt64) throws -> String {
    try shownPath(address(file, "file", "f_path"))
  }
}
