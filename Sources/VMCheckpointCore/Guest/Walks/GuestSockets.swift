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
  /// More than any kernel has.
  private static let familyLimit: UInt64 = 64
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
    // Who has a descriptor that cannot be read may hold any socket.
    var isWholeKnown = listNotes == nil
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
      if let notes = takeNotes() {
        held.append(GuestSocket(pid: pid, note: notes))
        isWholeKnown = false
      }
      for each in open {
        var row: GuestSocket
        do {
          guard let object = try socket(ofFile: each.file) else { continue }
          row = try known[object] ?? socket(at: object)
          known[object] = row
        } catch let fault as GuestFault {
          row = GuestSocket(note: "file at \(hexString(each.file)): \(fault)")
          isWholeKnown = false
        }
        row.pid = pid
        row.descriptor = Int64(each.descriptor)
        held.append(row)
      }
    }
    if let listNotes { note(listNotes) }
    guard isWhole else { return held }
    let objects = try socketsInTables()
    let notes = takeNotes()
    var others: [GuestSocket] = []
    for object in objects where known[object] == nil {
      var row = try socket(at: object)
      known[object] = row
      // One without an inode has no descriptor: nobody can hold it.
      if !isWholeKnown, row.inode != 0 {
        row.note = [Self.holderUnknown, row.note].compactMap { $0 }.joined(separator: "; ")
      }
      others.append(row)
    }
    if let notes { note(notes) }
    return others + held
  }

  private static let holderUnknown =
    "a process may hold it: not all processes and descriptors could be read"

  /// The `struct sock` behind a file, if that is a socket.
  private func socket(ofFile file: UInt64) throws -> UInt64? {
    // Both say what it is: one of them may be damaged.
    let mode = try u64(u64(file, "file", "f_inode"), "inode", "i_mode") & 0xf000
    let dentry = try u64(file, "file", "f_path.dentry")
    let operations = try u64(dentry, "dentry", "d_op")
    let function = operations == 0 ? 0 : try u64(operations, "dentry_operations", "d_dname")
    let isNamedSocket = function != 0 && symbols.name(at: function) == "sockfs_dname"
    guard isNamedSocket || mode == Self.socketMode else { return nil }
    guard isNamedSocket, mode == Self.socketMode else {
      throw GuestFault.broken("its inode and its name do not agree that it is a socket")
    }
    let socket = try u64(file, "file", "private_data")
    guard try u64(socket, "socket", "file") == file else {
      throw GuestFault.broken("the socket at \(hexString(socket)) is not this file's")
    }
    let object = try u64(socket, "socket", "sk")
    return object == 0 ? nil : object
  }

  /// S_IFSOCK.
  private static let socketMode: UInt64 = 0xc000

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
    guard family > 0, family < Self.familyLimit else {
      throw GuestFault.broken("no socket is of family \(family)")
    }
    try attempt("the network namespace") {
      row.networkNamespace = try namespaceNumber(
        u64(object, "sock_common", "skc_net.net"),
        "net"
      )
    }
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
    if family == Self.unixFamily {
      try attempt("the path") { row.path = try unixPath(object) }
    }
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
