/// The kernel's own tables of sockets: they have what no process holds as well.
extension GuestKernel {
  private static let hashMaskLimit: UInt64 = 1 << 22
  private static let hashChainLimit = 10_000

  /// The `struct sock`s in the tables that this kernel has. What is not there or torn is noted.
  func socketsInTables() throws -> [UInt64] {
    var found: [UInt64] = []
    func attempt(_ body: () throws -> [UInt64]) throws {
      do {
        found += try body()
      } catch let fault as GuestFault {
        note("tables of sockets: \(fault)")
      }
    }
    var namespaces: [NetworkNamespace] = []
    do {
      namespaces = try networkNamespaces()
    } catch let fault as GuestFault {
      note("tables of sockets: \(fault)")
    }
    try attempt { try tcpSockets(namespaces) }
    try attempt { try udpSockets(namespaces) }
    try attempt { try unixSockets(namespaces) }
    try attempt { try rawSockets() }
    try attempt { try packetSockets(namespaces) }
    try attempt { try netlinkSockets() }
    return found
  }

  /// The objects on the chains of an array of buckets.
  ///
  /// - Parameters:
  ///   - table: Where the first bucket is.
  ///   - stride: A bucket's size in bytes.
  ///   - headOffset: Where in a bucket its first node's address is.
  ///   - nodeOffset: Where in an object its node is.
  private func objects(
    inBuckets table: UInt64,
    count: UInt64,
    stride: UInt64,
    headOffset: UInt64 = 0,
    nodeOffset: UInt64
  ) throws -> [UInt64] {
    guard table != 0, count <= Self.hashMaskLimit, (8...4096).contains(stride),
      headOffset <= stride - 8
    else {
      throw GuestFault.broken("a hash table has \(count) buckets of \(stride) bytes")
    }
    var found: [UInt64] = []
    // A part at a time: most buckets are empty.
    let partCount = max(65536 / stride, 1)
    for first in Swift.stride(from: UInt64(0), to: count, by: Int(partCount)) {
      let part = min(partCount, count - first)
      let bytes = try bytes(table &+ first &* stride, count: Int(part * stride))
      for index in 0..<part {
        let node = bytes.withUnsafeBytes {
          UInt64(
            littleEndian: $0.loadUnaligned(
              fromByteOffset: Int(index * stride + headOffset),
              as: UInt64.self
            )
          )
        }
        // An odd number ends the chains that have no end otherwise.
        guard node != 0, node & 1 == 0 else { continue }
        found += try chain(
          node,
          limit: Self.hashChainLimit,
          "sockets",
          isEnd: { $0 & 1 != 0 }
        ).map { $0 &- nodeOffset }
      }
    }
    return found
  }

  private func offset(_ type: String, _ path: String, or second: String? = nil) throws -> UInt64 {
    UInt64(try field(type, path, or: second).offset)
  }

  private func tcpSockets(_ namespaces: [NetworkNamespace]) throws -> [UInt64] {
    var tables: Set<UInt64> = []
    if let shared = symbols.address(of: "tcp_hashinfo") { tables.insert(shared) }
    // A namespace may have a table of its own.
    if has("net", "ipv4.tcp_death_row.hashinfo") {
      for namespace in namespaces {
        tables.insert(try u64(namespace.address, "net", "ipv4.tcp_death_row.hashinfo"))
      }
    }
    tables.remove(0)
    guard !tables.isEmpty else { throw GuestFault.noSymbol("tcp_hashinfo") }
    let nodeOffset = try offset("sock_common", "skc_nulls_node")
    var found: [UInt64] = []
    for table in tables.sorted() {
      found += try objects(
        inBuckets: u64(table, "inet_hashinfo", "ehash"),
        count: u64(table, "inet_hashinfo", "ehash_mask") & 0xffff_ffff + 1,
        stride: UInt64(byteCount(of: "inet_ehash_bucket")),
        headOffset: offset("inet_ehash_bucket", "chain"),
        nodeOffset: nodeOffset
      )
      // Listeners: in an array of the structure itself before 5.19.
      let listing = UInt64(try byteCount(of: "inet_listen_hashbucket"))
      let headOffset = try offset("inet_listen_hashbucket", "nulls_head", or: "head")
      if let array = types.field("inet_hashinfo", "listening_hash") {
        found += try objects(
          inBuckets: table &+ UInt64(array.offset),
          count: UInt64(array.byteCount) / listing,
          stride: listing,
          headOffset: headOffset,
          nodeOffset: nodeOffset
        )
      } else {
        found += try objects(
          inBuckets: u64(table, "inet_hashinfo", "lhash2"),
          count: u64(table, "inet_hashinfo", "lhash2_mask") & 0xffff_ffff + 1,
          stride: listing,
          headOffset: headOffset,
          nodeOffset: nodeOffset
        )
      }
    }
    return found
  }

  private func udpSockets(_ namespaces: [NetworkNamespace]) throws -> [UInt64] {
    var tables: Set<UInt64> = []
    if let shared = symbols.address(of: "udp_table") { tables.insert(shared) }
    if has("net", "ipv4.udp_table") {
      for namespace in namespaces {
        tables.insert(try u64(namespace.address, "net", "ipv4.udp_table"))
      }
    }
    tables.remove(0)
    var found: [UInt64] = []
    for table in tables.sorted() {
      found += try objects(
        inBuckets: u64(table, "udp_table", "hash"),
        count: u64(table, "udp_table", "mask") & 0xffff_ffff + 1,
        stride: UInt64(byteCount(of: "udp_hslot")),
        headOffset: offset("udp_hslot", "head"),
        nodeOffset: offset("sock_common", "skc_node")
      )
    }
    return found
  }

  private func unixSockets(_ namespaces: [NetworkNamespace]) throws -> [UInt64] {
    let nodeOffset = try offset("sock_common", "skc_node")
    // Of each namespace from 6.0 on: 256 chains. Before, 512 in one table.
    guard has("net", "unx.table.buckets") else {
      guard let table = symbols.address(of: "unix_socket_table") else {
        throw GuestFault.noSymbol("unix_socket_table")
      }
      return try objects(inBuckets: table, count: 512, stride: 8, nodeOffset: nodeOffset)
    }
    return try namespaces.flatMap { namespace in
      try objects(
        inBuckets: u64(namespace.address, "net", "unx.table.buckets"),
        count: 256,
        stride: 8,
        nodeOffset: nodeOffset
      )
    }
  }

  private func rawSockets() throws -> [UInt64] {
    guard let array = types.field("raw_hashinfo", "ht") else { return [] }
    return try ["raw_v4_hashinfo", "raw_v6_hashinfo"].flatMap { name in
      guard let table = symbols.address(of: name) else { return [UInt64]() }
      return try objects(
        inBuckets: table &+ UInt64(array.offset),
        count: UInt64(array.byteCount) / 8,
        stride: 8,
        nodeOffset: offset("sock_common", "skc_node")
      )
    }
  }

  private func packetSockets(_ namespaces: [NetworkNamespace]) throws -> [UInt64] {
    guard has("net", "packet.sklist") else { return [] }
    return try namespaces.flatMap { namespace in
      try objects(
        inBuckets: address(namespace.address, "net", "packet.sklist"),
        count: 1,
        stride: 8,
        nodeOffset: offset("sock_common", "skc_node")
      )
    }
  }

  /// Of all namespaces: a table for each protocol, in which the kernel's own ends are too.
  private func netlinkSockets() throws -> [UInt64] {
    guard let pointer = symbols.address(of: "nl_table") else {
      throw GuestFault.noSymbol("nl_table")
    }
    let (first, stride) = (try u64(pointer), UInt64(try byteCount(of: "netlink_table")))
    guard first != 0 else { return [] }
    let nodeOffset = try offset("netlink_sock", "node")
    return try (0..<Self.netlinkProtocolCount).flatMap { number in
      let buckets = try u64(first &+ number &* stride, "netlink_table", "hash.tbl")
      // A protocol that nobody has registered has none.
      guard buckets != 0 else { return [UInt64]() }
      // Its buckets are in pieces while memory is short; then the pieces would have to be walked.
      guard try u64(buckets, "bucket_table", "nest") & 0xffff_ffff == 0 else {
        throw GuestFault.broken("the table of netlink protocol \(number) is in pieces")
      }
      return try objects(
        inBuckets: address(buckets, "bucket_table", "buckets"),
        count: u64(buckets, "bucket_table", "size") & 0xffff_ffff,
        stride: 8,
        nodeOffset: nodeOffset
      )
    }
  }

  /// MAX_LINKS.
  private static let netlinkProtocolCount: UInt64 = 32
}
