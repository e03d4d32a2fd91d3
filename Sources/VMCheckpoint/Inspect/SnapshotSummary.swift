/// One line of `list`.
public struct SnapshotSummary: Sendable, Codable, Hashable {
  /// Unique in the store.
  public var name: String
  /// In lower case.
  public var uuid: String
  /// The VM that it belongs to.
  public var vm: String
  /// The parent's name.
  public var parent: String?

  /// ISO 8601, UTC.
  public var startedAt: String
  /// When the save was complete: ISO 8601, UTC.
  public var completedAt: String

  /// The guest's RAM.
  public var ramByteCount: UInt64
  /// Pages that are not zero.
  public var storedPageCount: UInt64
  /// Pages whose content the store did not have before.
  public var newPageCount: UInt64
  /// What the new pages took, compressed.
  public var newStoredByteCount: UInt64
  /// Overlays, at all PFNs together.
  public var overlayCount: Int
  /// Device states.
  public var deviceStateCount: Int
  /// Keys and values.
  public var tags: [String: String]

  /// SHA-256 over RAM, overlays and device state, in hexadecimal.
  public var digest: String
}

/// Everything that `show` reports about a snapshot.
public struct SnapshotDetail: Sendable, Hashable {
  /// What `list` shows of it.
  public var summary: SnapshotSummary
  /// What the RAM was read from.
  public var source: String
  /// The program that saved it, with its version.
  public var producer: String
  /// The vendor of the CPU that the guest's hypercall page was for, if an overlay shows it.
  public var cpuVendor: CPUVendor?
  /// The TSC frequency that the guest's reference TSC page was for, if an overlay shows it.
  public var tscFrequencyHz: UInt64?
  /// In ascending order of GPA.
  public var regions: [MemoryRegion]
  /// Pages whose content is unknown, because the dump that was saved left them out.
  public var absentPageCount: UInt64
  /// The names of the snapshots whose parent this is.
  public var children: [String]

  /// As `--overlays-out` would give them for bare RAM.
  public var overlays: OverlayDocument

  /// Where the overlays come from: ``describedOverlays``, or what the save found them in, such as
  /// `qemu-device-state`; `nil`: there is none.
  public var overlayOrigin: String?

  /// The origin of overlays that whoever saved the snapshot described.
  public static let describedOverlays = "overlays-json"

  /// In the VMM's order.
  public var deviceStates: [DeviceStateSummary]

  /// What a VM that starts from it touches first, as it was recorded from it or from an ancestor.
  public var workingSet: WorkingSet.Summary?
}

/// A stored device state without its data.
public struct DeviceStateSummary: Sendable, Codable, Hashable {
  /// Unique in the store.
  public var name: String
  /// What wrote the data.
  public var format: String
  /// The version of `format`.
  public var version: UInt32
  /// The data's size.
  public var byteCount: UInt64
  /// Its size in the store.
  public var storedByteCount: UInt64

  /// In hexadecimal.
  public var sha256: String
}
