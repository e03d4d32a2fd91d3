package import FoundationEssentials

/// Applies a ``RetentionPolicy``.
package struct Retention {
  /// What is known of a snapshot.
  package struct Candidate: Sendable, Hashable {
    /// Ascends in the order of saving.
    package var id: Int64
    package var name: String
    package var uuid: String
    package var vm: String
    /// The time that rules go by, as in the column `started_at`.
    package var startedAt: String
    package var tags: [String: String]
    package var hasChildren: Bool
    /// Who serves it.
    package var lease: Int64?

    package init(
      id: Int64,
      name: String,
      uuid: String = "",
      vm: String,
      startedAt: String,
      tags: [String: String] = [:],
      hasChildren: Bool = false,
      lease: Int64? = nil
    ) {
      self.id = id
      self.name = name
      self.uuid = uuid
      self.vm = vm
      self.startedAt = startedAt
      self.tags = tags
      self.hasChildren = hasChildren
      self.lease = lease
    }
  }

  /// A snapshot, and why it stays.
  package struct Decision: Sendable, Hashable {
    package var candidate: Candidate
    /// Empty: it goes.
    package var reasons: [RetentionReason]
    /// By how much it is dated later than now; `nil`: it is not.
    package var aheadSeconds: Double?
  }

  private let policy: RetentionPolicy
  private let calendar: Calendar
  private let now: Date

  /// - Parameter now: When it is. A snapshot with a later time was saved while the clock was wrong.
  package init(_ policy: RetentionPolicy, now: Date = Date()) {
    self.policy = policy
    self.now = now
    var calendar = Calendar(identifier: .gregorian)
    calendar.timeZone = .gmt
    calendar.firstWeekday = 2
    calendar.minimumDaysInFirstWeek = 4
    self.calendar = calendar
  }

  /// Decides about `candidates`, and returns them in their order.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `corrupt` for a time that is none.
  /// - Complexity: O(*n* log *n*).
  package func decide(_ candidates: [Candidate]) throws(VMCheckpointError) -> [Decision] {
    let candidates = candidates.filter { policy.vm == nil || $0.vm == policy.vm }
    var reasons: [Int64: [RetentionReason]] = [:]
    let groups = Dictionary(grouping: candidates) { candidate in
      policy.grouping.map { grouping in
        switch grouping {
        case .vm: candidate.vm
        case .tag(let key): candidate.tags[key]
        }
      }
    }
    for group in groups.values {
      for order in orders(of: group) { try keep(order, &reasons) }
    }
    let newest = Set(
      Dictionary(grouping: candidates, by: \.vm).values.flatMap { snapshots in
        orders(of: snapshots).compactMap { $0.first?.id }
      }
    )
    for candidate in candidates {
      for condition in policy.tags where condition.fits(candidate.tags) {
        reasons[candidate.id, default: []].append(.tag(condition))
      }
      if policy.keepsParents, candidate.hasChildren {
        reasons[candidate.id, default: []].append(.parent)
      }
      if let lease = candidate.lease { reasons[candidate.id, default: []].append(.lease(lease)) }
      if !policy.deletesNewest, newest.contains(candidate.id) {
        reasons[candidate.id, default: []].append(.newest)
      }
    }
    let future = FutureTimes(nowSeconds: now.timeIntervalSince1970)
    return candidates.map { candidate in
      Decision(
        candidate: candidate,
        reasons: unique(reasons[candidate.id] ?? []),
        aheadSeconds: future.secondsAhead(of: candidate.startedAt)
      )
    }
  }

  /// The snapshots of a group, newest first, in each order that a user may mean: that in which they came to the store,
  /// and that of their times. They differ where an old snapshot was pulled, or a clock was wrong. Each order keeps what
  /// is newest by it, so that neither makes a rule delete what the other calls the newest.
  private func orders(of group: [Candidate]) -> [[Candidate]] {
    let future = FutureTimes(nowSeconds: now.timeIntervalSince1970)
    let byArrival = group.sorted { $0.id > $1.id }
    // Times sort as text. One that is later than now says nothing: it comes last.
    let byTime = byArrival.map { (isPast: future.secondsAhead(of: $0.startedAt) == nil, $0) }
      .sorted { first, second in
        guard first.isPast == second.isPast else { return first.isPast }
        return (first.1.startedAt, first.1.id) > (second.1.startedAt, second.1.id)
      }
      .map(\.1)
    return byArrival == byTime ? [byArrival] : [byArrival, byTime]
  }

  private func unique(_ reasons: [RetentionReason]) -> [RetentionReason] {
    var found = Set<RetentionReason>()
    return reasons.filter { found.insert($0).inserted }
  }

  /// The rules that look at time.
  ///
  /// - Parameter group: Newest first, in one of its orders.
  private func keep(
    _ group: [Candidate],
    _ reasons: inout [Int64: [RetentionReason]]
  ) throws(VMCheckpointError) {
    for candidate in group.prefix(policy.last) { reasons[candidate.id, default: []].append(.last) }
    guard policy.looksAtTime else { return }
    var dates: [Date] = []
    for candidate in group { dates.append(try date(candidate)) }
    for period in RetentionPolicy.Period.allCases {
      guard let count = policy.counts[period], count > 0 else { continue }
      var buckets = Set<[Int]>()
      for (candidate, date) in zip(group, dates) {
        let bucket = bucket(date, period)
        guard !buckets.contains(bucket) else { continue }
        guard buckets.count < count else { break }
        buckets.insert(bucket)
        reasons[candidate.id, default: []].append(.period(period))
      }
    }
    // One snapshot that a wrong clock dated years ahead must not make all others old.
    guard let within = policy.within,
      let newest = dates.filter({ $0 <= now }).max() ?? dates.max()
    else { return }
    let oldest = calendar.date(byAdding: within.negated, to: newest) ?? .distantPast
    for (candidate, date) in zip(group, dates) where date >= oldest {
      reasons[candidate.id, default: []].append(.within)
    }
  }

  private func bucket(_ date: Date, _ period: RetentionPolicy.Period) -> [Int] {
    let parts = calendar.dateComponents(
      [.year, .month, .day, .hour, .yearForWeekOfYear, .weekOfYear],
      from: date
    )
    let (year, month, day) = (parts.year ?? 0, parts.month ?? 0, parts.day ?? 0)
    return switch period {
    case .hourly: [year, month, day, parts.hour ?? 0]
    case .daily: [year, month, day]
    case .weekly: [parts.yearForWeekOfYear ?? 0, parts.weekOfYear ?? 0]
    case .monthly: [year, month]
    case .yearly: [year]
    }
  }

  private func date(_ candidate: Candidate) throws(VMCheckpointError) -> Date {
    do {
      return try Date(
        candidate.startedAt,
        strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)
      )
    } catch {
      throw .corrupt("snapshot \(quotedName(candidate.name)) is damaged: its time has another form")
    }
  }
}

/// Why a snapshot stays.
public enum RetentionReason: Sendable, Hashable {
  case last
  case period(RetentionPolicy.Period)
  case within
  case tag(RetentionPolicy.TagCondition)
  /// Others descend from it.
  case parent
  /// A server gives its pages to VMs.
  case lease(Int64)
  /// It is its VM's newest.
  case newest
}

extension RetentionPolicy.TagCondition {
  fileprivate func fits(_ tags: [String: String]) -> Bool {
    guard let found = tags[key] else { return false }
    return value == nil || found == value
  }
}

extension CalendarDuration {
  fileprivate var negated: DateComponents {
    var parts = DateComponents()
    parts.year = -years
    parts.month = -months
    parts.day = -days
    parts.hour = -hours
    return parts
  }
}
