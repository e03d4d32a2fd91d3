/// What a server and its keeper say to each other: 64 bytes, and often a descriptor.
///
///     OFFSET  SIZE  DESCRIPTION
///          0     1  kind
///          1     1  length of the text
///          8     8  number of the VM, or of the lease
///         16    48  text
struct KeeperMessage: Hashable {
  enum Kind: UInt8 {
    /// The snapshot's UUID, as text.
    case snapshot = 1
    /// The socket on which VMs connect.
    case listener
    /// The lock of a lease.
    case lease
    /// A VM's connection, with its message still in it.
    case connection
    /// A VM's ``ServedPages``.
    case servedPages
    /// A VM has ended.
    case ended
    /// The keeper has sent all that it has.
    case ready
    /// The server ends as it should.
    case done
    /// `/dev/fuse`, from which a mount's requests are read.
    case device
    /// A mount's ``MountMemory``.
    case memory
    /// The lock file with the locks of a mount's leases.
    case locks
  }

  static let byteCount = 64
  private static let textOffset = 16

  var kind: Kind
  var number: UInt64 = 0
  var text = ""

  init(_ kind: Kind, number: UInt64 = 0, text: String = "") {
    (self.kind, self.number, self.text) = (kind, number, text)
  }

  init?(_ bytes: [UInt8]) {
    guard bytes.count == Self.byteCount, let kind = Kind(rawValue: bytes[0]),
      Int(bytes[1]) <= Self.byteCount - Self.textOffset
    else { return nil }
    self.kind = kind
    number = (8..<16).reduce(0) { $0 | UInt64(bytes[$1]) << UInt64(8 * ($1 - 8)) }
    text = String(decoding: bytes[Self.textOffset...].prefix(Int(bytes[1])), as: UTF8.self)
  }

  var bytes: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Self.byteCount)
    let text = Array(text.utf8.prefix(Self.byteCount - Self.textOffset))
    bytes[0] = kind.rawValue
    bytes[1] = UInt8(text.count)
    for index in 8..<16 {
      bytes[index] = UInt8(truncatingIfNeeded: number >> UInt64(8 * (index - 8)))
    }
    bytes.replaceSubrange(Self.textOffset..<(Self.textOffset + text.count), with: text)
    return bytes
  }
}
