public import VMCheckpoint

/// A domain of libvirt's that runs, by its name or UUID.
struct LibvirtManagedDomain: MemoryFormat {
  let name = "libvirt"
  let summary = "A domain of libvirt's that runs, by its name or UUID; read only"
  let form: RestoreFormat? = nil
  let namesDomain = true

  func input(_ source: SourceReference) throws(VMCheckpointError) -> RAMInput {
    // A domain may be called "-": the format reads no streams.
    var domain = "-"
    if case .path(let given) = source.place { domain = given }
    let live = LibvirtLiveSource(domain: domain, connection: source.connection)
    try live.check()
    return .libvirtLive(live)
  }
}

/// A domain that libvirt manages on this host.
public struct LibvirtLiveSource: Sendable, Hashable {
  /// Its name or UUID, or the number that libvirt gave it when it was started.
  public var domain: String

  /// The URI of a connection to libvirt; `nil`: the one that `virsh` chooses.
  public var connection: String?

  /// Makes one with these values.
  public init(domain: String, connection: String? = nil) {
    self.domain = domain
    self.connection = connection
  }

  /// The longest name of a domain; libvirt names files after domains.
  private static let maximumNameByteCount = 255
  private static let maximumURIByteCount = 4096

  /// Checks what can be checked without libvirt.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`.
  func check() throws(VMCheckpointError) {
    guard (1...Self.maximumNameByteCount).contains(domain.utf8.count),
      !domain.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f || $0 == UInt8(ascii: "/") })
    else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(quotedName(domain)) is not the name of a domain",
        hint: "virsh list --all shows the domains of libvirt"
      )
    }
    guard let connection else { return }
    guard (1...Self.maximumURIByteCount).contains(connection.utf8.count),
      !connection.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f })
    else {
      throw VMCheckpointError(
        .invalidArgument,
        "--connect \(quotedName(connection)) is not a URI",
        hint: "such as qemu:///system"
      )
    }
    // An alias of libvirt.conf has no colon. What it stands for is checked when virsh has resolved it.
    if connection.utf8.contains(UInt8(ascii: ":")) { try Self.requireLocal(connection) }
  }

  /// Refuses a connection to another host, where the memory file would be, and to another hypervisor.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument`.
  static func requireLocal(_ uri: String) throws(VMCheckpointError) {
    let scheme = uri.prefix { $0 != ":" }
    let rest = uri.dropFirst(scheme.count + 1)
    let parts = scheme.split(separator: "+", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.first == "qemu" else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(quotedName(uri)) is not a connection to libvirt's QEMU driver",
        hint: "only domains of QEMU can be saved; give --connect qemu:///system or another URI"
      )
    }
    let host = rest.hasPrefix("//") ? rest.dropFirst(2).prefix { $0 != "/" && $0 != "?" } : ""
    guard parts.count == 1 || parts[1] == "unix", host.isEmpty else {
      throw VMCheckpointError(
        .invalidArgument,
        "\(quotedName(uri)) leads to another host, where libvirt would write the domain's memory",
        hint: "run vmckpt on that host"
      )
    }
  }
}

extension RAMInput {
  /// A domain that libvirt manages: RAM, device state, and the domain's XML. The layout as of a migration
  /// stream. Needs the program `virsh`.
  public static func libvirtLive(_ source: LibvirtLiveSource) -> RAMInput {
    RAMInput(LibvirtLiveSave(source: source))
  }
}
