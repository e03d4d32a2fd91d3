/// One line of `list`.
public struct SnapshotSummary: Sendable, Codable, Hashable {
  public var name: String
  public var uuid: String
  public var vm: String
  public var parent: String?

  /// ISO 8601, UTC.
  public var startedAt: String
  public var completedAt: String

  public var ramByteCount: UInt64
  public var storedPageCount: UInt64
  public var newPageCount: UInt64
  public var newStoredByteCount: UInt64
  public var overlayCount: Int
  public var deviceStateCount: Int
  public var tags: [String: String]

  /// SHA-256 over RAM, overlays and device state, in hexadecimal.
  public var digest: String
}

/// Everything `show` tells about a snapshot.
public struct SnapshotDetail: Sendable, Hashable {
  public var summary: SnapshotSummary
  public var source: String
  public var producer: String
  public var cpuVendor: CPUVendor?
  public var tscFrequencyHz: UInt64?
  public var regions: [MemoryRegion]
  public var children: [String]

  /// As `--overlays-out` would give them for bare RAM.
  public var overlays: OverlayDocument

  public var deviceStates: [DeviceStateSummary]
}

/// A stored device state without its data.
public struct DeviceStateSummary: Sendable, Codable, Hashable {
  public var name: String
  public var format: String
  public var version: UInt32
  public var byteCount: UInt64
  public var storedByteCount: UInt64

  /// In hexadecimal.
  public var sha256: String
}
