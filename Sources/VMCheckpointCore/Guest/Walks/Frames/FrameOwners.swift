/// Owners that a page array names: slab caches and files, each read once.
struct FrameOwners {
  private let kernel: GuestKernel
  private(set) var list: [FrameOwner] = [FrameOwner()]
  private var slabCaches: [UInt64: UInt32] = [:]
  private var files: [UInt64: UInt32?] = [:]
  private var superBlocks: [UInt64: SuperBlock] = [:]
  private var largeKmallocNumber: UInt32?
  private let root: GuestKernel.Location?

  private struct SuperBlock {
    var type: String
    /// Where the file system is mounted.
    var mount: UInt64?
  }

  /// More owners are not told apart.
  private static let limit = 1 << 20
  private static let mountLimit = 20_000

  init(_ kernel: GuestKernel) {
    self.kernel = kernel
    // Paths are those of the first process.
    let leader = (try? kernel.processLeaders().first)
    root = leader.flatMap { $0 }.flatMap { try? kernel.rootDirectory(ofTask: $0) }
    _ = kernel.takeNotes()
  }

  private mutating func add(_ owner: FrameOwner) -> UInt32 {
    guard list.count < Self.limit else { return 0 }
    list.append(owner)
    return UInt32(list.count - 1)
  }

  mutating func largeKmalloc() -> UInt32 {
    if let largeKmallocNumber { return largeKmallocNumber }
    let number = add(FrameOwner(name: "kmalloc-large"))
    largeKmallocNumber = number
    return number
  }

  mutating func slabCache(_ cache: UInt64) throws -> UInt32 {
    if let known = slabCaches[cache] { return known }
    var name: String?
    do {
      name = try kernel.string(kernel.u64(cache, "kmem_cache", "name"), limit: 64)
    } catch let fault as GuestFault {
      kernel.note("slab cache \(hexString(cache)): \(fault)")
    }
    let number = add(FrameOwner(name: name))
    slabCaches[cache] = number
    return number
  }

  /// The file whose pages `mapping` keeps; `nil` when it is not a file's.
  mutating func file(_ mapping: UInt64) throws -> UInt32? {
    if let known = files[mapping] { return known }
    var number: UInt32?
    do {
      if let owner = try readFile(mapping) { number = add(owner) }
    } catch let fault as GuestFault {
      kernel.note("file of mapping \(hexString(mapping)): \(fault)")
    }
    files[mapping] = .some(number)
    return number
  }

  private mutating func readFile(_ mapping: UInt64) throws -> FrameOwner? {
    let inode = try kernel.u64(mapping, "address_space", "host")
    guard inode != 0,
      try kernel.u64(inode, "inode", "i_mapping") == mapping
        || kernel.address(inode, "inode", "i_data") == mapping
    else { return nil }
    let superBlock = try superBlock(kernel.u64(inode, "inode", "i_sb"))
    var owner = FrameOwner(name: superBlock.type)
    let alias = try kernel.u64(inode, "inode", "i_dentry.first")
    guard alias != 0 else {
      owner.file = "inode \(try kernel.u64(inode, "inode", "i_ino"))"
      return owner
    }
    let field = try kernel.field("dentry", "d_u.d_alias", or: "d_alias")
    let dentry = alias &- UInt64(field.offset)
    do {
      if let mount = superBlock.mount {
        owner.file = try kernel.path(
          GuestKernel.Location(mount: mount, dentry: dentry),
          root: root
        ).path
      } else {
        owner.file = try kernel.pathInFileSystem(dentry)
      }
    } catch let fault as GuestFault {
      kernel.note("path of inode \(hexString(inode)): \(fault)")
    }
    return owner
  }

  private mutating func superBlock(_ address: UInt64) throws -> SuperBlock {
    if let known = superBlocks[address] { return known }
    let type = try kernel.u64(address, "super_block", "s_type")
    let name = try kernel.string(kernel.u64(type, "file_system_type", "name"), limit: 64)
    let result = SuperBlock(type: name, mount: try mount(ofSuperBlock: address))
    superBlocks[address] = result
    return result
  }

  /// A mount of the whole file system that the first process can reach, or else any.
  private func mount(ofSuperBlock address: UInt64) throws -> UInt64? {
    let top = try kernel.u64(address, "super_block", "s_root")
    var mounts: [UInt64] = []
    let field = try kernel.field("super_block", "s_mounts")
    if kernel.has("mount", "mnt_instance") {
      mounts = try kernel.ring(address &+ UInt64(field.offset), limit: Self.mountLimit, "mounts")
        .map { try kernel.container($0, "mount", "mnt_instance") }
    } else if kernel.has("mount", "mnt_next_for_sb") {
      // From 6.18 on.
      let next = UInt64(try kernel.field("mount", "mnt_next_for_sb").offset)
      mounts = try kernel.chain(
        kernel.value(address, field),
        nextOffset: next,
        limit: Self.mountLimit,
        "mounts"
      )
    }
    var first: UInt64?
    for mount in mounts where try kernel.u64(mount, "mount", "mnt.mnt_root") == top {
      first = first ?? mount
      let place = GuestKernel.Location(mount: mount, dentry: top)
      if try kernel.path(place, root: root).isReachable { return mount }
    }
    return first
  }
}
