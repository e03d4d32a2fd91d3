import Glibc

/// A network interface of a guest.
package struct GuestNetworkDevice {
  package var namespace: UInt64
  package var name: String?
  package var index: Int64?
  package var mac: String?
  package var mtu: UInt64?
  /// The kernel's IFF_ bits.
  package var flags: UInt64?
  /// IPv4 and IPv6, as `address/prefix`.
  package var addresses: [String]?
  package var note: String?
}

extension GuestKernel {
  private static let namespaceLimit = 10_000
  private static let deviceLimit = 100_000
  private static let addressLimit = 10_000

  /// A network namespace: its `struct net`, and its number.
  struct NetworkNamespace {
    var address: UInt64
    var number: UInt64
  }

  func networkNamespaces() throws -> [NetworkNamespace] {
    try ring(symbol("net_namespace_list"), limit: Self.namespaceLimit, "network namespaces")
      .compactMap { node in
        do {
          let net = try container(node, "net", "list")
          return NetworkNamespace(address: net, number: try namespaceNumber(net, "net"))
        } catch let fault as GuestFault {
          note("network namespace at \(hexString(node)): \(fault)")
          return nil
        }
      }
  }

  /// The network interfaces of all namespaces.
  ///
  /// - Throws: ``GuestFault`` when the list of namespaces cannot be found.
  package func networkDevices() throws -> [GuestNetworkDevice] {
    var devices: [GuestNetworkDevice] = []
    let namespaces = try networkNamespaces()
    let listNotes = takeNotes()
    for namespace in namespaces {
      var nodes: [UInt64] = []
      do {
        let head = try address(namespace.address, "net", "dev_base_head")
        nodes = try ring(head, limit: Self.deviceLimit, "network devices")
      } catch let fault as GuestFault {
        note("\(fault)")
      }
      if let notes = takeNotes() {
        devices.append(GuestNetworkDevice(namespace: namespace.number, note: notes))
      }
      for node in nodes {
        var device = GuestNetworkDevice(namespace: namespace.number)
        try attempt("device at \(hexString(node))") {
          try fill(&device, at: container(node, "net_device", "dev_list"))
        }
        device.note = takeNotes()
        devices.append(device)
      }
    }
    if let listNotes { note(listNotes) }
    return devices.sorted { ($0.namespace, $0.index ?? .max) < ($1.namespace, $1.index ?? .max) }
  }

  private func fill(_ device: inout GuestNetworkDevice, at object: UInt64) throws {
    device.name = try text(object, "net_device", "name")
    device.index = Int64(try s32(address(object, "net_device", "ifindex")))
    device.mtu = try u64(object, "net_device", "mtu") & 0xffff_ffff
    device.flags = try u64(object, "net_device", "flags") & 0xffff_ffff
    try attempt("the hardware address") {
      let mac = try bytes(u64(object, "net_device", "dev_addr"), count: 6)
      device.mac = mac.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
    try attempt("the addresses") {
      device.addresses = try addresses4(object) + addresses6(object)
    }
  }

  private func addresses4(_ device: UInt64) throws -> [String] {
    let settings = try u64(device, "net_device", "ip_ptr")
    guard settings != 0 else { return [] }
    return try chain(
      u64(settings, "in_device", "ifa_list"),
      nextOffset: UInt64(field("in_ifaddr", "ifa_next").offset),
      limit: Self.addressLimit,
      "addresses"
    ).map { address in
      let bits = try u64(address, "in_ifaddr", "ifa_prefixlen") & 0xff
      return "\(try address4(self.address(address, "in_ifaddr", "ifa_local")))/\(bits)"
    }
  }

  private func addresses6(_ device: UInt64) throws -> [String] {
    guard has("net_device", "ip6_ptr"), has("inet6_dev", "addr_list") else { return [] }
    let settings = try u64(device, "net_device", "ip6_ptr")
    guard settings != 0 else { return [] }
    let head = try address(settings, "inet6_dev", "addr_list")
    return try ring(head, limit: Self.addressLimit, "IPv6 addresses").map { node in
      let address = try container(node, "inet6_ifaddr", "if_list")
      let bits = try u64(address, "inet6_ifaddr", "prefix_len") & 0xffff_ffff
      return "\(try address6(self.address(address, "inet6_ifaddr", "addr")))/\(bits)"
    }
  }

  /// The IPv4 address at `va` as a text.
  func address4(_ va: UInt64) throws -> String { Self.text(of: try bytes(va, count: 4), AF_INET) }

  /// The IPv6 address at `va` as a text.
  func address6(_ va: UInt64) throws -> String { Self.text(of: try bytes(va, count: 16), AF_INET6) }

  private static func text(of address: [UInt8], _ family: CInt) -> String {
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    guard inet_ntop(family, address, &text, socklen_t(text.count)) != nil else { return "" }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
