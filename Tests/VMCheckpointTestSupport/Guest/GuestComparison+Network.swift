import Glibc

/// What the kernel said of sockets and network interfaces.
extension GuestComparison {
  /// The network namespaces, each with the process whose files say what is in it.
  private var namespaces: [(pid: Int, number: Int64)] {
    truth.pids.compactMap { pid in
      guard truth.bytes("/proc/\(pid)/net/interfaces") != nil,
        let number = truth.namespace(pid, "net")
      else { return nil }
      return (pid, number)
    }
  }

  package var sockets: Result {
    var result = Result("guest_socket")
    compareHolders(&result)
    var unseen: [Int64: [GuestRow]] = Dictionary(grouping: tables["guest_socket"]) {
      $0.integer("netns") ?? -1
    }
    for (pid, number) in namespaces {
      var rows = unseen.removeValue(forKey: number) ?? []
      compareInternet(&result, &rows, pid: pid)
      compareUnix(&result, &rows, pid: pid)
      compareByInode(&result, rows, pid: pid)
    }
    for row in unseen.values.joined() { result.extra("socket \(row)") }
    return result
  }

  /// Each descriptor of a socket is a row, and each row with a process a descriptor.
  private func compareHolders(_ result: inout Result) {
    var held: [String: Int64] = [:]
    for row in tables["guest_socket"] {
      guard let pid = row.integer("pid"), let descriptor = row.integer("fd") else { continue }
      held["/proc/\(pid)/fd/\(descriptor)"] = row.integer("ino") ?? -1
    }
    for pid in truth.pids {
      for number in truth.numbers(below: "/proc/\(pid)/fd") {
        let path = "/proc/\(pid)/fd/\(number)"
        guard let link = truth.text(path), link.hasPrefix("socket:[") else { continue }
        result.rowCount += 1
        result.expect(
          "\(path): ino",
          held.removeValue(forKey: path),
          Int64(link.dropFirst(8).dropLast())
        )
      }
    }
    for path in held.keys { result.extra("socket \(path)") }
  }

  private static let states = [
    "", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE",
    "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "SYN_RECV",
  ]

  /// An address as /proc/net writes it: words of the machine's byte order, and a port.
  private func address(_ text: Substring, isSix: Bool) -> String {
    let parts = text.split(separator: ":")
    guard parts.count == 2 else { return "" }
    let digits = Array(parts[0])
    var bytes: [UInt8] = []
    for word in stride(from: 0, to: digits.count, by: 8) {
      for byte in stride(from: 6, through: 0, by: -2) {
        bytes.append(UInt8(String(digits[(word + byte)...(word + byte + 1)]), radix: 16) ?? 0)
      }
    }
    var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    inet_ntop(isSix ? AF_INET6 : AF_INET, bytes, &buffer, socklen_t(buffer.count))
    let name = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    return "\(String(decoding: name, as: UTF8.self)) \(UInt16(parts[1], radix: 16) ?? 0)"
  }

  /// TCP, UDP and raw sockets. Takes the rows of these families out of `rows`.
  private func compareInternet(_ result: inout Result, _ rows: inout [GuestRow], pid: Int) {
    let internet = rows.filter { [2, 10].contains($0.integer("family")) }
    rows.removeAll { [2, 10].contains($0.integer("family")) }
    func key(_ row: GuestRow) -> String {
      let local = "\(row.text("laddr") ?? "") \(row.integer("lport") ?? -1)"
      let remote = "\(row.text("raddr") ?? "") \(row.integer("rport") ?? -1)"
      let kind = row.integer("type") == 3 ? 0 : row.integer("protocol") ?? -1
      return "\(row.integer("family") ?? -1) \(kind) \(local) \(remote)"
    }
    var found: [String: GuestRow] = [:]
    for row in internet { found[key(row)] = row }

    for (name, family, kind) in [
      ("tcp", 2, 6), ("tcp6", 10, 6), ("udp", 2, 17), ("udp6", 10, 17), ("raw", 2, 0),
      ("raw6", 10, 0),
    ] {
      for line in truth.lines("/proc/\(pid)/net/\(name)").dropFirst() {
        let parts = line.split(separator: " ")
        guard parts.count > 9 else { continue }
        let (local, remote) = (
          address(parts[1], isSix: family == 10), address(parts[2], isSix: family == 10)
        )
        let what = "\(name) \(local) to \(remote) of process \(pid)'s network"
        guard let row = found.removeValue(forKey: "\(family) \(kind) \(local) \(remote)") else {
          // What is left of a connection ends by itself after a minute: how many 10 ms are left.
          let remaining = parts[5].split(separator: ":").last.flatMap { Int($0, radix: 16) } ?? 0
          if parts[3] != "06" || remaining > 3000 { result.missing(what) }
          continue
        }
        result.rowCount += 1
        let state = Int(parts[3], radix: 16) ?? 0
        result.expect("\(what): state", row.text("state"), Self.states[min(state, 12)])
        result.expect("\(what): ino", row.integer("ino"), Int64(parts[9]))
        result.expect("\(what): uid", row.integer("uid"), Int64(parts[7]))
      }
    }
    for row in found.values {
      // Neither bound nor connected: the kernel lists none of these.
      let isUnused = row.text("state") == "CLOSE" && row.integer("lport") == 0
      if !isUnused { result.extra("socket \(row)") }
    }
  }

  /// Takes the rows of Unix sockets out of `rows`.
  private func compareUnix(_ result: inout Result, _ rows: inout [GuestRow], pid: Int) {
    func key(_ inode: Int64, _ type: Int64, _ path: String) -> String { "\(inode) \(type) \(path)" }
    var found: [String: GuestRow] = [:]
    for row in rows where row.integer("family") == 1 {
      found[key(row.integer("ino") ?? -1, row.integer("type") ?? -1, row.text("path") ?? "")] = row
    }
    rows.removeAll { $0.integer("family") == 1 }
    for line in (truth.bytes("/proc/\(pid)/net/unix") ?? []).split(separator: 0x0a).dropFirst() {
      let parts = line.split(separator: 0x20, maxSplits: 7).map {
        String(decoding: $0, as: UTF8.self)
      }
      guard parts.count > 6, let type = Int64(parts[4], radix: 16), let inode = Int64(parts[6])
      else {
        continue
      }
      let path = parts.count > 7 ? GuestTruth.shown(Array(parts[7].utf8)) : ""
      guard let row = found.removeValue(forKey: key(inode, type, path)) else {
        result.missing("Unix socket \(inode) \(path) of process \(pid)'s network")
        continue
      }
      result.rowCount += 1
      // 3 and 2 are connected, with and without a process.
      let isConnected = parts[5] == "03" || parts[5] == "02"
      result.expect(
        "Unix socket \(inode) \(path): connected",
        row.text("state") == "ESTABLISHED",
        isConnected
      )
      if parts[3] == "00010000" {
        result.expect("Unix socket \(inode) \(path): state", row.text("state"), "LISTEN")
      }
    }
    for row in found.values { result.extra("socket \(row)") }
  }

  /// Packet and netlink sockets, the kernel's own ends among these. Some kinds are in no file of the kernel's.
  private func compareByInode(_ result: inout Result, _ rows: [GuestRow], pid: Int) {
    var found: [Int64: GuestRow] = [:]
    for row in rows { found[row.integer("ino") ?? -1] = row }
    for line in truth.lines("/proc/\(pid)/net/packet").dropFirst() {
      let parts = line.split(separator: " ")
      guard parts.count > 8, let inode = Int64(parts[8]) else { continue }
      guard let row = found[inode] else {
        result.missing("packet socket \(inode)")
        continue
      }
      result.rowCount += 1
      result.expect("packet socket \(inode): type", row.integer("type"), Int64(parts[2]))
      result.expect(
        "packet socket \(inode): protocol",
        row.integer("protocol"),
        Int64(parts[3], radix: 16)
      )
    }
    for line in truth.lines("/proc/\(pid)/net/netlink").dropFirst() {
      let parts = line.split(separator: " ")
      guard parts.count > 9, let inode = Int64(parts[9]) else { continue }
      guard let row = found[inode] else {
        if !lacksNetlinkTable { result.missing("netlink socket \(inode)") }
        continue
      }
      result.rowCount += 1
      result.expect("netlink socket \(inode): family", row.integer("family"), 16)
      result.expect("netlink socket \(inode): protocol", row.integer("protocol"), Int64(parts[1]))
    }
  }

  package var devices: Result {
    var result = Result("guest_netdev")
    var rows: [String: GuestRow] = [:]
    for row in tables["guest_netdev"] {
      rows["\(row.integer("netns") ?? -1) \(row.text("name") ?? "")"] = row
    }
    for (pid, number) in namespaces {
      let lines = truth.lines("/proc/\(pid)/net/interfaces").map { $0.split(separator: " ") }
      for line in lines where line[0] == "device" {
        let what = "device \(line[1]) of process \(pid)'s network"
        guard let row = rows.removeValue(forKey: "\(number) \(line[1])") else {
          result.missing(what)
          continue
        }
        result.rowCount += 1
        result.expect("\(what): ifindex", row.integer("ifindex"), Int64(line[2]))
        result.expect("\(what): mtu", row.integer("mtu"), Int64(line[3]))
        result.expect("\(what): mac", row.text("mac"), String(line[4]))
        // UP, BROADCAST, LOOPBACK, NOARP, MULTICAST: others come from how the link is just now.
        let settled: Int64 = 0x108b
        result.expect(
          "\(what): flags",
          row.integer("flags").map { $0 & settled },
          Int64(line[5], radix: 16).map { $0 & settled }
        )
        let addresses = lines.filter { $0[0] == "address" && $0[1] == line[1] }.map {
          String($0[2])
        }
        let shown = row.text("addresses")?.split(separator: ",").map(String.init) ?? []
        result.expect("\(what): addresses", shown.sorted(), addresses.sorted())
      }
    }
    for row in rows.values { result.extra("device \(row)") }
    return result
  }
}
