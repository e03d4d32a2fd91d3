/// An opaque blob of the VMM's own state that is kept with the RAM.
public struct DeviceState: Sendable, Hashable {
  /// Unique in its snapshot; 1 to 255 bytes.
  public var name: String

  /// What wrote `data`, such as `qemu-vmstate`; at most 255 bytes.
  public var format: String

  /// The version of `format`.
  public var version: UInt32

  /// At most ``maximumByteCount`` bytes.
  public var data: [UInt8]

  /// 512 MiB: SQLite keeps a blob of at most 10⁹ bytes as Debian builds it, and a VMM's device
  /// state is a few MiB.
  public static let maximumByteCount = 512 << 20

  /// Makes one with these values.
  public init(name: String, format: String, version: UInt32, data: [UInt8]) {
    self.name = name
    self.format = format
    self.version = version
    self.data = data
  }
}
