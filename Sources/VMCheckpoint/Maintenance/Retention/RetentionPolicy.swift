/// Which snapshots ``Store/prune(_:dryRun:control:)`` keeps. A snapshot stays when any of the rules keeps it.
///
/// The words are those of restic's `forget`, since many know them. Days, weeks, months and years are those of the
/// calendar in UTC, and weeks begin on Monday (ISO 8601).
///
/// The newest by time and the one that came last differ where an old snapshot was pulled, or a clock was wrong. Then
/// each rule is applied in both orders, and what one of them keeps stays.
public struct RetentionPolicy: Sendable, Hashable {
  /// Every snapshot, as a count.
  public static let unlimited = Int.max

  /// What a rule that keeps one snapshot for each period counts.
  public enum Period: String, Sendable, Hashable, Codable, CaseIterable {
    case hourly, daily, weekly, monthly, yearly
  }

  /// What makes snapshots belong together: each rule is applied to each group.
  public enum Grouping: Sendable, Hashable {
    case vm
    /// By the value of the tag with this key; snapshots without it are a group.
    case tag(String)
  }

  /// Snapshots that have a tag.
  public struct TagCondition: Sendable, Hashable {
    /// The tag's key.
    public var key: String
    /// `nil`: any value.
    public var value: String?

    /// Snapshots with the tag `key`, of this value if there is one.
    public init(key: String, value: String? = nil) {
      self.key = key
      self.value = value
    }
  }

  /// So many of the newest.
  public var last = 0
  /// The newest of each of so many periods that have one.
  public var counts: [Period: Int] = [:]
  /// All that are not older than this before the group's newest. A snapshot that is dated later than now does not
  /// count as the newest, unless all are.
  public var within: CalendarDuration?
  /// All that have one of these.
  public var tags: [TagCondition] = []
  /// All that others descend from.
  public var keepsParents = false
  /// Whether even the newest snapshot of a VM may go.
  public var deletesNewest = false
  /// One group when empty.
  public var grouping: [Grouping] = [.vm]
  /// Only snapshots of this VM are looked at.
  public var vm: String?

  /// A policy that keeps the newest snapshot of each VM, and no other.
  public init() {}

  /// Whether a rule needs to know when snapshots were saved.
  var looksAtTime: Bool { within != nil || counts.values.contains { $0 > 0 } }

  /// Whether no rule says what to keep.
  public var isEmpty: Bool { last == 0 && !looksAtTime && tags.isEmpty }

  /// - Throws: ``VMCheckpointError``: `invalidArgument` when no rule says what to keep.
  func requireRule() throws(VMCheckpointError) {
    guard isEmpty else { return }
    throw VMCheckpointError(
      .invalidArgument,
      "no rule says which snapshots to keep",
      hint: "give one, such as --keep-last 7"
    )
  }
}

/// A span of time in units of the calendar.
public struct CalendarDuration: Sendable, Hashable {
  /// 0 or more, as each of them.
  public var years = 0
  /// Of different lengths.
  public var months = 0
  /// Of 24 hours.
  public var days = 0
  /// The smallest unit.
  public var hours = 0

  /// No time at all.
  public init() {}
}
