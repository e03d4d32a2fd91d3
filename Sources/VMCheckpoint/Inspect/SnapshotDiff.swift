/// A run of consecutive pages.
public struct PageRange: Sendable, Codable, Hashable {
  public var firstPFN: UInt64
  public var pageCount: UInt64
}

/// How the pages of one class differ between two snapshots.
public struct PageChanges: Sendable, Codable, Hashable {
  public var pageCount: UInt64

  /// In ascending order, with no two adjacent; cut after the number of ranges asked for.
  public var ranges: [PageRange]

  /// How many ranges there are in all.
  public var rangeCount: UInt64
}

/// A thing that is in one snapshot or in both but different.
public enum ChangeKind: String, Sendable, Codable, Hashable {
  case added
  case removed
  case changed
}

public struct OverlayChange: Sendable, Codable, Hashable {
  public var change: ChangeKind
  public var pfn: UInt64
  public var kind: OverlayKind
  public var vp: UInt32
}

public struct DeviceStateChange: Sendable, Codable, Hashable {
  public var change: ChangeKind
  public var name: String
}

public struct MemoryRegionChange: Sendable, Codable, Hashable {
  public var change: ChangeKind
  public var region: MemoryRegion
}

/// What is different in snapshot `b` as against snapshot `a`.
public struct SnapshotDiff: Sendable, Codable, Hashable {
  public var a: String
  public var b: String

  /// Zero, or no RAM, in `a`; not zero in `b`.
  public var added: PageChanges
  /// Not zero in `a`; zero, or no RAM, in `b`.
  public var zeroed: PageChanges
  /// Not zero in both, and not the same.
  public var changed: PageChanges
  /// Not zero in both, and the same.
  public var unchangedPageCount: UInt64

  public var overlays: [OverlayChange]
  public var deviceStates: [DeviceStateChange]
  public var regions: [MemoryRegionChange]

  /// Whether the two hold the same RAM, overlays and device state.
  public var isIdentical: Bool
}
