/// The pages that a VM touched first when it started from a snapshot, in the order of their first touch.
///
/// A hint about what to read first. No page is wrong because of what it says.
public struct WorkingSet: Sendable, Hashable {
  /// More runs are not recorded, and not read: a store may be hostile.
  package static let maximumRunCount = 1 << 18
  /// 1 TiB: nobody touches more in some seconds.
  package static let maximumPageCount: UInt64 = 1 << 28

  /// What describes a recording, without its pages.
  public struct Summary: Sendable, Hashable, Codable {
    /// The snapshot that was served when it was recorded: the one asked for, or an ancestor of it.
    public var snapshot: String
    /// How its pages were served, as `lease.door`.
    public var door: String
    /// When it was stored.
    public var recordedAt: String
    /// How long the VM was watched, from its first touch on.
    public var durationSeconds: Double
    /// How many pages it has.
    public var pageCount: UInt64
    /// How many runs they make.
    public var runCount: UInt64
  }

  /// What describes it.
  public var summary: Summary
  /// PFNs in the order of their first touch. They need not be RAM of a descendant.
  public var runs: [Range<UInt64>]
}
