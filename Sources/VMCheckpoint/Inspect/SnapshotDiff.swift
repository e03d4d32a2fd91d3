/// A thing that is in one snapshot or in both but different.
public enum ChangeKind: String, Sendable, Codable, Hashable {
  case added
  case removed
  case changed
}

/// An overlay that differs.
public struct OverlayChange: Sendable, Codable, Hashable {
  /// What happened to it.
  public var change: ChangeKind
  /// The page that the overlay covers.
  public var pfn: UInt64
  /// What the overlay is.
  public var kind: OverlayKind
  /// The virtual processor; 0 for an overlay of the VM.
  public var vp: UInt32
}

/// A device state that differs.
public struct DeviceStateChange: Sendable, Codable, Hashable {
  /// What happened to it.
  public var change: ChangeKind
  /// Its name.
  public var name: String
}

/// A memory region that differs.
public struct MemoryRegionChange: Sendable, Codable, Hashable {
  /// What happened to it.
  public var change: ChangeKind
  /// In `b`, or in `a` if it was removed.
  public var region: MemoryRegion
}

/// A value that is not the same in two snapshots.
public struct ValueChange<Value: Sendable & Codable & Hashable>: Sendable, Codable, Hashable {
  /// In the first; `nil`: unknown.
  public var a: Value?
  /// In the second; `nil`: unknown.
  public var b: Value?
}

/// What is different in snapshot `b` as against snapshot `a`.
public struct SnapshotDiff: Sendable, Codable, Hashable {
  /// The first snapshot's name.
  public var a: String
  /// The second snapshot's name.
  public var b: String

  /// Absent in `a` or `b`, and so not compared: in none of the other classes.
  public var absent: PageChanges
  /// Zero, or no RAM, in `a`; not zero in `b`.
  public var added: PageChanges
  /// Not zero in `a`; zero, or no RAM, in `b`.
  public var zeroed: PageChanges
  /// Not zero in both, and not the same.
  public var changed: PageChanges
  /// Not zero in both, and the same.
  public var unchangedPageCount: UInt64

  /// Overlays that differ, by PFN and priority.
  public var overlays: [OverlayChange]
  /// In the VMM's order.
  public var deviceStates: [DeviceStateChange]
  /// In ascending order of GPA.
  public var regions: [MemoryRegionChange]
  /// The guest OS ID as a hexadecimal number; `nil` when both have the same.
  public var guestOSID: ValueChange<String>?

  /// Whether the two hold the same RAM, overlays and device state, as far as it is known: the same pages may
  /// be absent in both.
  public var isIdentical: Bool
}
