/// A made-up guest of 16 MiB with a kernel that describes itself as Linux does: symbols, types, page tables, and
/// a few processes with memory and files.
///
///     0x100000  page tables of the kernel and of process 1
///     0x200000  the image, mapped at `imageStart`
///     0x600000  the page array
///     0x800000  everything that is allocated, mapped directly
package struct SyntheticGuest {
  package static let byteCount = 16 << 20
  package static let imageStart: UInt64 = 0xffff_ffff_8100_0000
  private static let imageGPA: UInt64 = 0x20_0000
  private static let imageEnd: UInt64 = 0x60_0000
  package static let imageOffset = imageStart - imageGPA
  private static let directMap: UInt64 = 0xffff_8880_0000_0000
  private static let pageArray: UInt64 = 0xffff_ea00_0000_0000
  private static let pageArrayGPA: UInt64 = 0x60_0000
  /// Where process 1 has its arguments.
  package static let argumentsVA: UInt64 = 0x7fff_0000_0000
  /// A frame of process 1's, and one of a file's.
  package static let anonymousPFN: UInt64 = 0xc00
  package static let filePFN: UInt64 = 0xc01

  package private(set) var ram = [UInt8](repeating: 0, count: byteCount)
  package let types: [String: Int]
  private var nextFree: UInt64 = 0x80_0000
  private var symbols: [KallsymsBuilder.Symbol] = []
  private let parents: [Int]

  /// - Parameters:
  ///   - form: How the symbols are kept.
  ///   - hasTypes: Whether there is type information.
  ///   - parents: Whose child each process is, by number.
  package init(
    _ form: KallsymsBuilder.Form = .before,
    hasTypes: Bool = true,
    parents: [Int] = [0, 0, 0, 0]
  ) {
    self.parents = parents
    var builder = SyntheticTypes()
    types = builder.places
    let typeBytes = builder.bytes()

    // The image: code, then what is found by symbols.
    let banner = symbol("linux_banner", at: 0x1000)
    put(banner, Array("Linux version 6.1.0-synthetic (builder)\0".utf8))
    let firstTask = symbol("init_task", at: 0x2000)
    let releaseNames = symbol("init_uts_ns", at: 0x4000)
    for (member, text) in [
      ("nodename", "synthetic"), ("release", "6.1.0-synthetic"), ("machine", "x86_64"),
    ] {
      set(releaseNames, "uts_namespace.name", "new_utsname.\(member)", Array(text.utf8))
    }
    symbol("page_offset_base", at: 0x5000, value: Self.directMap)
    symbol("vmemmap_base", at: 0x5008, value: Self.pageArray)
    symbol("__per_cpu_offset", at: 0x5010, value: 0)
    symbol("nr_cpu_ids", at: 0x5018, value: 1)
    symbols.append(.init("D", "init_top_pgt", Self.imageOffset + 0x10_0000))
    makePageTables()
    makeProcesses(firstTask)
    makePageArray()

    // Enough functions for an index of names, and the symbols in order.
    let start = Self.imageStart
    symbols.append(.init("T", "_text", start))
    symbols.append(.init("T", "x86_64_start_kernel", start + 0x10))
    for number in 0..<1500 {
      symbols.append(.init("t", "function_\(number)", start + 0x100 + UInt64(number) * 2))
    }
    symbols.append(.init("D", "_end", Self.imageOffset + Self.imageEnd))
    let typesGPA = Self.imageGPA + 0x8_0000
    if hasTypes {
      put(typesGPA, typeBytes)
      symbols.append(.init("R", "__start_BTF", Self.imageOffset + typesGPA))
    }
    symbols.sort { $0.address < $1.address }
    // init_top_pgt is outside of the image here, and first.
    if form == .before || form == .withSequences {
      symbols.insert(.init("A", "fixed_percpu_data", 0), at: 0)
    }
    let tables = KallsymsBuilder(form, symbols)
      .bytes(at: Self.imageGPA + 0x2_0000, imageOffset: Self.imageOffset)
    put(Self.imageGPA + 0x2_0000, tables.bytes)
  }

  // MARK: Memory

  package mutating func put(_ gpa: UInt64, _ bytes: [UInt8]) {
    ram.replaceSubrange(Int(gpa)..<(Int(gpa) + bytes.count), with: bytes)
  }

  package func word(_ gpa: UInt64) -> UInt64 {
    (0..<8).reduce(0) { $0 | UInt64(ram[Int(gpa) + $1]) << UInt64($1 * 8) }
  }

  /// The place of a directly mapped or an image's address.
  package static func place(_ va: UInt64) -> UInt64 {
    va >= imageStart ? va - imageOffset : va - directMap
  }

  /// Adds a symbol; returns its place.
  @discardableResult
  private mutating func symbol(_ name: String, at offset: UInt64, value: UInt64? = nil) -> UInt64 {
    symbols.append(.init("D", name, Self.imageStart + offset))
    if let value { put(Self.imageGPA + offset, littleEndian(value)) }
    return Self.imageGPA + offset
  }

  /// Memory for an object; returns its virtual address.
  private mutating func allocate(_ type: String) -> UInt64 {
    defer { nextFree += UInt64((types[type]! + 63) / 64 * 64) }
    return Self.directMap + nextFree
  }

  private mutating func set(_ gpa: UInt64, _ members: String..., value: UInt64, byteCount: Int = 8)
  {
    let offset = members.reduce(0) { $0 + types[$1]! }
    put(gpa + UInt64(offset), Array(littleEndian(value).prefix(byteCount)))
  }

  private mutating func set(_ gpa: UInt64, _ members: String..., bytes: [UInt8]) {
    put(gpa + UInt64(members.reduce(0) { $0 + types[$1]! }), bytes)
  }

  private mutating func set(_ gpa: UInt64, _ outer: String, _ inner: String, _ bytes: [UInt8]) {
    put(gpa + UInt64(types[outer]! + types[inner]!), bytes)
  }

  /// Makes a ring of list heads at these virtual addresses.
  private mutating func link(_ nodes: [UInt64]) {
    for (index, node) in nodes.enumerated() {
      let next = nodes[(index + 1) % nodes.count]
      put(Self.place(node), littleEndian(next))
      put(Self.place(next) + 8, littleEndian(node))
    }
  }

  // MARK: Contents

  private mutating func makePageTables() {
    let (top, table) = (UInt64(0x10_0000), UInt64(1) | 2)
    func index(_ va: UInt64, _ level: UInt64) -> UInt64 { va >> (12 + 9 * level) & 511 }
    var free = top + 0x1000
    for (va, gpa, pageCount) in [
      (Self.imageStart, Self.imageGPA, UInt64(2)), (Self.directMap, 0, 8),
      (Self.pageArray, Self.pageArrayGPA, 1),
    ] {
      put(top + index(va, 3) * 8, littleEndian(free | table))
      put(free + index(va, 2) * 8, littleEndian((free + 0x1000) | table))
      for page in 0..<pageCount {
        let entry = (gpa + page << 21) | table | 0x80
        put(free + 0x1000 + (index(va, 1) + page) * 8, littleEndian(entry))
      }
      free += 0x2000
    }
    // Process 1: its arguments' page, and a page of a file behind it.
    let user = UInt64(0x10_8000)
    put(user, Array(ram[Int(top)..<(Int(top) + 4096)]))
    let va = Self.argumentsVA
    put(user + index(va, 3) * 8, littleEndian(user + 0x1000 | table | 4))
    put(user + 0x1000 + index(va, 2) * 8, littleEndian(user + 0x2000 | table | 4))
    put(user + 0x2000 + index(va, 1) * 8, littleEndian(user + 0x3000 | table | 4))
    put(user + 0x3000 + index(va, 0) * 8, littleEndian(Self.anonymousPFN << 12 | table | 4))
    put(user + 0x3000 + (index(va, 0) + 1) * 8, littleEndian(Self.filePFN << 12 | table | 4))
    put(Self.anonymousPFN << 12, Array("/sbin/init\0--verbose\0".utf8))
    put(Self.filePFN << 12, [UInt8](repeating: 7, count: 4096))
  }

  /// A dentry in a directory, with its inode and super block.
  private mutating func dentry(_ name: String, in parent: UInt64?, inode: UInt64) -> UInt64 {
    let dentry = allocate("dentry")
    let text = Self.directMap + nextFree
    put(nextFree, Array(name.utf8))
    nextFree += 64
    let place = Self.place(dentry)
    set(place, "dentry.d_parent", value: parent ?? dentry)
    set(place, "dentry.d_name", "qstr.len", value: UInt64(name.utf8.count), byteCount: 4)
    set(place, "dentry.d_name", "qstr.name", value: text)
    set(place, "dentry.d_hash", "hlist_bl_node.pprev", value: 1)
    set(place, "dentry.d_inode", value: inode)
    if inode != 0 {
      set(
        Self.place(inode),
        "inode.i_dentry",
        "hlist_head.first",
        value: dentry + UInt64(types["dentry.d_alias"]!)
      )
    }
    return dentry
  }

  private var fileMapping: UInt64 = 0

  private mutating func makeProcesses(_ firstPlace: UInt64) {
    let first = firstPlace + Self.imageOffset
    // A file system with one directory and a program.
    let superBlock = allocate("super_block")
    let fileSystem = allocate("file_system_type")
    let typeName = Self.directMap + nextFree
    put(nextFree, Array("ext4".utf8))
    nextFree += 64
    set(Self.place(fileSystem), "file_system_type.name", value: typeName)
    set(Self.place(superBlock), "super_block.s_type", value: fileSystem)
    let root = dentry("/", in: nil, inode: 0)
    set(Self.place(superBlock), "super_block.s_root", value: root)
    let inode = allocate("inode")
    set(Self.place(inode), "inode.i_sb", value: superBlock)
    fileMapping = inode + UInt64(types["inode.i_data"]!)
    set(Self.place(inode), "inode.i_mapping", value: fileMapping)
    set(Self.place(fileMapping), "address_space.host", value: inode)
    let directory = dentry("sbin", in: root, inode: 0)
    let program = dentry("init", in: directory, inode: inode)
    let mount = allocate("mount")
    set(Self.place(mount), "mount.mnt", "vfsmount.mnt_root", value: root)
    set(Self.place(mount), "mount.mnt_parent", value: mount)
    link([
      superBlock + UInt64(types["super_block.s_mounts"]!),
      mount + UInt64(types["mount.mnt_instance"]!),
    ])
    let mounted = mount + UInt64(types["mount.mnt"]!)
    let fs = allocate("fs_struct")
    for member in ["root", "pwd"] {
      set(Self.place(fs), "fs_struct.\(member)", "path.mnt", value: mounted)
      set(Self.place(fs), "fs_struct.\(member)", "path.dentry", value: root)
    }
    let file = allocate("file")
    set(Self.place(file), "file.f_path", "path.mnt", value: mounted)
    set(Self.place(file), "file.f_path", "path.dentry", value: program)

    let namespace = allocate("pid_namespace")
    set(
      Self.place(namespace),
      "pid_namespace.ns",
      "ns_common.inum",
      value: 0xf000_0001,
      byteCount: 4
    )
    let credentials = allocate("cred")
    let tasks = [first] + (1...3).map { _ in allocate("task_struct") }
    for (pid, task) in tasks.enumerated() {
      let place = Self.place(task)
      let name = ["swapper/0", "init", "kthreadd", "worker"][pid]
      set(place, "task_struct.comm", bytes: Array(name.utf8))
      for member in ["pid", "tgid"] {
        set(place, "task_struct.\(member)", value: UInt64(pid), byteCount: 4)
      }
      set(place, "task_struct.group_leader", value: task)
      set(place, "task_struct.real_parent", value: tasks[parents[pid]])
      set(place, "task_struct.real_cred", value: credentials)
      set(place, "task_struct.static_prio", value: 120, byteCount: 4)
      set(place, "task_struct.__state", value: 1, byteCount: 4)
      set(place, "task_struct.start_boottime", value: UInt64(pid) * 1_000_000)
      set(place, "task_struct.flags", value: pid == 1 ? 0 : 0x20_0000, byteCount: 4)
      let signal = allocate("signal_struct")
      set(place, "task_struct.signal", value: signal)
      link([
        signal + UInt64(types["signal_struct.thread_head"]!),
        task + UInt64(types["task_struct.thread_node"]!),
      ])
      let pidObject = allocate("pid")
      set(place, "task_struct.thread_pid", value: pidObject)
      set(Self.place(pidObject), "pid.numbers", "upid.nr", value: UInt64(pid), byteCount: 4)
      set(Self.place(pidObject), "pid.numbers", "upid.ns", value: namespace)
    }
    link(tasks.map { $0 + UInt64(types["task_struct.tasks"]!) })
    let mm = allocate("mm_struct")
    let place = Self.place(tasks[1])
    set(place, "task_struct.mm", value: mm)
    set(place, "task_struct.fs", value: fs)
    set(Self.place(mm), "mm_struct.pgd", value: Self.directMap + 0x10_8000)
    set(Self.place(mm), "mm_struct.arg_start", value: Self.argumentsVA)
    set(Self.place(mm), "mm_struct.arg_end", value: Self.argumentsVA + 21)
    set(Self.place(mm), "mm_struct.exe_file", value: file)
    set(Self.place(mm), "mm_struct.total_vm", value: 2)
    set(
      Self.place(mm),
      "mm_struct.rss_stat",
      "mm_rss_stat.count",
      bytes: littleEndian(UInt64(1)) + littleEndian(UInt64(1))
    )
  }

  private mutating func makePageArray() {
    func entry(_ pfn: UInt64) -> UInt64 { Self.pageArrayGPA + pfn * 64 }
    let cache = allocate("kmem_cache")
    let name = Self.directMap + nextFree
    put(nextFree, Array("task_struct".utf8))
    nextFree += 64
    set(Self.place(cache), "kmem_cache.name", value: name)
    // PG_slab is flag 9, PG_reserved 12.
    for pfn in 0..<UInt64(0x800) { set(entry(pfn), "page.flags", value: 1 << 12) }
    for pfn in 0x800..<UInt64(0xc00) {
      set(entry(pfn), "page.flags", value: 1 << 9)
      set(entry(pfn), "page.slab_cache", value: cache)
      set(entry(pfn), "page._refcount", value: 1, byteCount: 4)
    }
    for pfn in [Self.anonymousPFN, Self.filePFN] {
      set(entry(pfn), "page._refcount", value: 1, byteCount: 4)
      set(entry(pfn), "page.mapping", value: pfn == Self.filePFN ? fileMapping : 1)
      set(entry(pfn), "page.index", value: 5)
    }
    // A free block of 512 pages.
    set(entry(0xe00), "page.private", value: 9)
    set(entry(0xe00), "page._mapcount", value: 0xffff_ff7f, byteCount: 4)
    for pfn in [Self.anonymousPFN, Self.filePFN] {
      set(entry(pfn), "page._mapcount", value: 0, byteCount: 4)
    }
  }
}

/// The types of ``SyntheticGuest``.
private struct SyntheticTypes {
  private var builder = BTFBuilder()

  var places: [String: Int] { builder.places }

  mutating func bytes() -> [UInt8] { builder.bytes() }

  init() {
    let u64 = builder.integer("unsigned long", 8)
    let u32 = builder.integer("unsigned int", 4)
    let u8 = builder.integer("unsigned char", 1)
    func words(_ names: String...) -> [(name: String, type: BTFBuilder.TypeID)] {
      names.map { ($0, u64) }
    }
    let list = builder.structure("list_head", words("next", "prev"))
    let hashNode = builder.structure("hlist_bl_node", words("next", "pprev"))
    let hashHead = builder.structure("hlist_head", words("first"))
    let string = builder.structure("qstr", [("hash", u32), ("len", u32), ("name", u64)])
    let path = builder.structure("path", words("mnt", "dentry"))
    let common = builder.structure("ns_common", [("stashed", u64), ("ops", u64), ("inum", u32)])
    let name65 = builder.array(of: u8, 65)
    let names = builder.structure(
      "new_utsname",
      ["sysname", "nodename", "release", "version", "machine", "domainname"].map { ($0, name65) }
    )
    _ = builder.structure("uts_namespace", [("name", names)])
    _ = builder.structure("cred", ["uid", "gid", "suid", "sgid", "euid", "egid"].map { ($0, u32) })
    let upid = builder.structure("upid", [("nr", u32), ("ns", u64)])
    let upids = builder.array(of: upid, 1)
    _ = builder.structure("pid", [("count", u32), ("level", u32), ("numbers", upids)])
    _ = builder.structure("pid_namespace", [("ns", common)])
    _ = builder.structure("mnt_namespace", [("ns", common)])
    _ = builder.structure("net", [("ns", common)])
    _ = builder.structure("nsproxy", words("mnt_ns", "net_ns"))
    _ = builder.structure("signal_struct", [("thread_head", list)])
    _ = builder.structure("fs_struct", [("root", path), ("pwd", path)])
    let mounted = builder.structure("vfsmount", words("mnt_root", "mnt_sb"))
    _ = builder.structure(
      "mount",
      [("mnt_parent", u64), ("mnt_mountpoint", u64), ("mnt", mounted), ("mnt_instance", list)]
    )
    _ = builder.structure("file", [("f_path", path), ("f_inode", u64)])
    _ = builder.structure("dentry_operations", words("d_dname"))
    _ = builder.structure(
      "dentry",
      [
        ("d_hash", hashNode), ("d_parent", u64), ("d_name", string), ("d_inode", u64),
        ("d_op", u64),
        ("d_alias", hashNode),
      ]
    )
    let mapping = builder.structure("address_space", words("host"))
    _ = builder.structure(
      "inode",
      [
        ("i_mapping", u64), ("i_sb", u64), ("i_ino", u64), ("i_dentry", hashHead),
        ("i_data", mapping),
      ]
    )
    _ = builder.structure("file_system_type", words("name"))
    _ = builder.structure("super_block", [("s_type", u64), ("s_root", u64), ("s_mounts", list)])
    _ = builder.structure("kmem_cache", words("name"))
    let words4 = builder.array(of: u64, 4)
    let comm = builder.array(of: u8, 16)
    let counters = builder.structure("mm_rss_stat", [("count", words4)])
    _ = builder.structure(
      "mm_struct",
      words("pgd", "arg_start", "arg_end", "exe_file", "total_vm") + [("rss_stat", counters)]
    )
    _ = builder.structure(
      "page",
      [
        ("flags", u64), ("compound_head", u64), ("slab_cache", u64), ("mapping", u64),
        ("index", u64),
        ("private", u64), ("_mapcount", u32), ("_refcount", u32), ("memcg_data", u64),
      ]
    )
    builder.enumeration("pageflags", [("PG_locked", 0), ("PG_slab", 9), ("PG_reserved", 12)])
    _ = builder.structure(
      "task_struct",
      [
        ("__state", u32), ("flags", u32), ("static_prio", u32), ("tasks", list),
        ("mm", u64), ("exit_state", u32), ("pid", u32), ("tgid", u32), ("real_parent", u64),
        ("group_leader", u64), ("thread_pid", u64), ("thread_node", list), ("start_boottime", u64),
        ("real_cred", u64), ("comm", comm), ("fs", u64), ("nsproxy", u64),
        ("signal", u64),
      ]
    )
  }
}
