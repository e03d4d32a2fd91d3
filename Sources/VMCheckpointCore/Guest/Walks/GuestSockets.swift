/// A socket of a guest, once for each descriptor that holds it; once also when no process holds it, as while
/// it waits in a listener's queue.
package struct GuestSocket {
  /// As `AF_…`: 1 is Unix, 2 IPv4, 10 IPv6, 16 netlink, 17 packet.
  package var family: UInt64?
  /// As `SOCK_…`: 1 is a stream, 2 datagrams, 3 raw, 5 packets in sequence.
  package var type: UInt64?
  package var `protocol`: UInt64?
  /// As `ss` and netstat name TCP's states, which others use too.
  package var state: String?
  package var localAddress: String?
  package var localPort: UInt64?
  package var remoteAddress: String?
  package var remotePort: UInt64?
  /// A Unix socket's name, with `@` before an abstract one.
  package var path: String?
  /// 0 when no process has opened it, or all have closed it.
  package var inode: UInt64?
  package var uid: UInt64?
  package var networkNamespace: UInt64?
  package var pid: Int64?
  package var descriptor: Int64?
  package var note: String?
}

extension GuestKernel {
  private static let socketLimit = 1_000_000
  private static let unixFamily: UInt64 = 1
  private static let internetFamilies: Set<UInt64> = [2, 10]
  private static let packetFamily: UInt64 = 17
  private static let stateNames = [
    "", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE",
    "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "SYN_RECV",
  ]
  private static let timeWait: UInt64 = 6
  private static let newRequest: UInt64 = 12

  /// The sockets of all processes and those that no process holds, these first.
  ///
  /// - Parameter pids: Of those that processes hold, others are left out. With a bound, those that no
  ///   process holds are as well.
  package func sockets(pids: ClosedRange<Int64> = .min ... .max) throws -> [GuestSocket] {
    let leaders = try leaders(pids: pids)
    let isWhole = pids == .min ... .max
    let listNotes = takeNotes()
    var held: [GuestSocket] = []
    var known: [UInt64: GuestSocket] = [:]
    for (pid, task) in leaders {
      let open: [OpenFile]
      do {
        open = try openFiles(ofTask: task)
      } catch let fault as GuestFault {
        note("the descriptors of process \(pid): \(fault)")
        open = []
      }
      if let notes = takeNotes() { held.append(GuestSocket(pid: pid, note: notes)) }
      for each in open {
        var row: GuestSocket
        do {
          guard let object = try socket(ofFile: each.file) else { continue }
          row = try known[object] ?? socket(at: object)
          known[object] = row
        } catch let fault as GuestFault {
          row = GuestSocket(note: "\(fault)")
        }
        row.pid = pid
        row.descriptor = Int64(each.descriptor)
        held.append(row)
      }
    }
    guard isWhole else { return held }
    var others: [GuestSocket] = []
    for object in try socketsInTables() where known[object] == nil {
      let row = try socket(at: object)
      known[object] = row
      others.append(row)
    }
    let notes = [listNotes, takeNotes()].compactMap { $0 }
    if !notes.isEmpty { others.append(GuestSocket(note: notes.joined(separator: "; "))) }
    return others + held
  }

  /// The `struct sock` behind a file, if that is a socket.
  private func socket(ofFile file: UInt64) throws -> UInt64? {
    let dentry = try u64(file, "file", "f_path.dentry")
    let operations = try u64(dentry, "dentry", "d_op")
    guard operations != 0 else { return nil }
    let function = try u64(operations, "dentry_operations", "d_dname")
    guard function != 0, symbols.name(at: function) == "sockfs_dname" else { return nil }
    let socket = try u64(file, "file", "private_data")
    guard socket != 0 else { return nil }
    let object = try u64(socket, "socket", "sk")
    return object == 0 ? nil : object
  }

  private func socket(at object: UInt64) throws -> GuestSocket {
    var row = GuestSocket()
    do {
      try fill(&row, at: object)
    } catch let fault as GuestFault {
      note("socket at \(hexString(object)): \(fault)")
    }
    row.note = takeNotes()
    return row
  }

  private func fill(_ row: inout GuestSocket, at object: UInt64) throws {
    let family = try u64(object, "sock_common", "skc_family")
    let state = try u64(object, "sock_common", "skc_state") & 0xff
    row.family = family
    let net = try u64(object, "sock_common", "skc_net.net")
    row.networkNamespace = try u64(net, "net", "ns.inum") & 0xffff_ffff
    // What is left of a TCP socket, or will be one, has less than a socket has.
    let isInternet = Self.internetFamilies.contains(family)
    let isWhole = !isInternet || (state != Self.timeWait && state != Self.newRequest)
    row.type = isWhole ? try u64(object, "sock", "sk_type") : 1
    row.protocol = isWhole ? try u64(object, "sock", "sk_protocol") : 6
    var shownState = state
    if isInternet, state == Self.timeWait, has("inet_timewait_sock", "tw_substate") {
      shownState = try u64(object, "inet_timewait_sock", "tw_substate")
    }
    row.state =
      shownState < UInt64(Self.stateNames.count)
      ? Self.stateNames[Int(shownState)] : "\(shownState)"

    if isInternet { try fillAddresses(&row, at: object, isFour: family == 2) }
    if family == Self.unixFamily { row.path = try unixPath(object) }
    if family == Self.packetFamily, has("packet_sock", "num") {
      row.protocol = UInt64(
        UInt16(truncatingIfNeeded: try u64(object, "packet_sock", "num")).byteSwapped
      )
    }
    guard isWhole else {
      (row.inode, row.uid) = (0, 0)
      return
    }
    let socket = try u64(object, "sock", "sk_socket")
    row.inode =
      socket == 0
      ? 0 : try u64(container(socket, "socket_alloc", "socket"), "socket_alloc", "vfs_inode.i_ino")
    row.uid = try u64(object, "sock", "sk_uid.val", or: "sk_uid") & 0xffff_ffff
  }

  private func fillAddresses(_ row: inout GuestSocket, at object: UInt64, isFour: Bool) throws {
    if isFour {
      row.localAddress = try address4(address(object, "sock_common", "skc_rcv_saddr"))
      row.remoteAddress = try address4(address(object, "sock_common", "skc_daddr"))
    } else {
      row.localAddress = try address6(address(object, "sock_common", "skc_v6_rcv_saddr"))
      row.remoteAddress = try address6(address(object, "sock_common", "skc_v6_daddr"))
    }
    row.localPort = try u64(object, "sock_common", "skc_num") & 0xffff
    let remote = try u64(object, "sock_common", "skc_dport")
    row.remotePort = UInt64(UInt16(truncatingIfNeeded: remote).byteSwapped)
  }

  private func unixPath(_ object: UInt64) throws -> String? {
    let record = try u64(object, "unix_sock", "addr")
    guard record != 0 else { return nil }
    let length = try u64(record, "unix_address", "len") & 0xffff_ffff
    // Of a sockaddr_un; its family comes first.
    guard (2...128).contains(length) else {
      throw GuestFault.broken("a Unix socket's address has \(length) bytes")
    }
    let name = try bytes(address(record, "unix_address", "name") &+ 2, count: Int(length) - 2)
    guard let first = name.first else { return nil }
    return first == 0
      ? "@" + GuestText.escaped(name.dropFirst()) : GuestText.escaped(name.prefix { $0 != 0 })
  }
}
