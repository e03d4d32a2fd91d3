import Foundation
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// Which snapshots `prune` keeps.
@Suite struct RetentionTests {
  private typealias Candidate = Retention.Candidate

  private func candidates(_ times: [String], vm: String = "web") -> [Retention.Candidate] {
    times.enumerated().map { index, time in
      Candidate(
        id: Int64(index + 1),
        name: "\(vm)/\(index + 1)",
        vm: vm,
        startedAt: time.count == 10 ? "\(time)T12:00:00.000Z" : "\(time):00.000Z"
      )
    }
  }

  /// The numbers of those that stay, and why.
  private func kept(
    _ candidates: [Retention.Candidate],
    now: String = "2100-01-01T00:00:00Z",
    _ change: (inout RetentionPolicy) -> Void
  ) throws -> [Int64: [RetentionReason]] {
    var policy = RetentionPolicy()
    policy.deletesNewest = true
    change(&policy)
    var kept: [Int64: [RetentionReason]] = [:]
    let retention = Retention(policy, now: try Date(now, strategy: .iso8601))
    for decision in try retention.decide(candidates) where !decision.reasons.isEmpty {
      kept[decision.candidate.id] = decision.reasons
    }
    return kept
  }

  @Test("a week begins on Monday, and belongs to the year of its Thursday")
  func weeks() throws {
    // 2027-01-03 is the Sunday of week 53 of 2026, and 2027-01-04 the Monday of week 1.
    let days = candidates(["2026-12-27", "2026-12-28", "2027-01-03", "2027-01-04", "2027-01-10"])
    #expect(try kept(days) { $0.counts[.weekly] = 1 }.keys.sorted() == [5])
    #expect(try kept(days) { $0.counts[.weekly] = 2 }.keys.sorted() == [3, 5])
    #expect(try kept(days) { $0.counts[.weekly] = 9 }.keys.sorted() == [1, 3, 5])
    #expect(try kept(days) { $0.counts[.yearly] = 9 }.keys.sorted() == [2, 5])
    #expect(try kept(days) { $0.counts[.monthly] = 9 }.keys.sorted() == [2, 5])
  }

  @Test("a snapshot that a wrong clock dated ahead does not make all others old")
  func wrongClock() throws {
    let days = candidates(["2026-11-20", "2038-01-19", "2026-11-29", "1970-01-01", "2026-11-30"])
    var week = CalendarDuration()
    week.days = 7
    let now = "2026-11-30T13:00:00Z"
    #expect(try kept(days, now: now) { $0.within = week }.keys.sorted() == [2, 3, 5])
    // Where no clock can be right, the newest is.
    #expect(try kept(Array(days[1...1]), now: now) { $0.within = week }.keys.sorted() == [2])
  }

  @Test("periods without a snapshot do not count, and the newest of each stays")
  func gaps() throws {
    let times = candidates([
      "2026-03-01T08:10", "2026-03-01T08:50", "2026-03-01T09:00", "2026-03-05T00:00",
      "2026-03-05T23:59", "2026-06-01T00:00",
    ])
    #expect(try kept(times) { $0.counts[.hourly] = 4 }.keys.sorted() == [3, 4, 5, 6])
    #expect(try kept(times) { $0.counts[.hourly] = 5 }.keys.sorted() == [2, 3, 4, 5, 6])
    #expect(try kept(times) { $0.counts[.daily] = 2 }.keys.sorted() == [5, 6])
    #expect(
      try kept(times) {
        $0.counts[.daily] = 1
        $0.counts[.monthly] = 2
        $0.last = 2
      } == [6: [.last, .period(.daily), .period(.monthly)], 5: [.last, .period(.monthly)]]
    )
    #expect(try kept(times) { $0.last = RetentionPolicy.unlimited }.count == 6)
    #expect(
      try kept(times) { $0.counts[.daily] = RetentionPolicy.unlimited }.keys.sorted() == [3, 5, 6]
    )
  }

  @Test("a span counts from the group's newest, by the calendar, its end included")
  func within() throws {
    let days = candidates(["2026-02-27", "2026-02-28", "2026-03-30", "2026-03-31"])
    func kept(_ change: (inout CalendarDuration) -> Void) throws -> [Int64] {
      var duration = CalendarDuration()
      change(&duration)
      return try self.kept(days) { $0.within = duration }.keys.sorted()
    }
    // A month before 31 March is the last of February.
    #expect(try kept { $0.months = 1 } == [2, 3, 4])
    #expect(try kept { $0.days = 1 } == [3, 4])
    #expect(try kept { $0.hours = 23 } == [4])
    #expect(try kept { $0.years = 10_000 } == [1, 2, 3, 4])
  }

  @Test("each group is judged for itself")
  func groups() throws {
    var all = candidates(["2026-03-01", "2026-03-02"]) + candidates(["2026-03-03"], vm: "db")
    all[2].id = 3
    all[0].tags = ["disk": "a"]
    all[1].tags = ["disk": "b"]
    #expect(try kept(all) { $0.last = 1 }.keys.sorted() == [2, 3])
    #expect(
      try kept(all) {
        $0.last = 1
        $0.grouping = []
      }.keys.sorted() == [3]
    )
    #expect(
      try kept(all) {
        $0.last = 1
        $0.grouping = [.tag("disk")]
      }.keys.sorted() == [1, 2, 3]
    )
    #expect(
      try kept(all) {
        $0.last = 1
        $0.vm = "web"
      }.keys.sorted() == [2]
    )
  }

  @Test("what is served, newest, tagged or a parent stays, and the reason is said")
  func otherReasons() throws {
    var all = candidates(["2026-03-01", "2026-03-02", "2026-03-03", "2026-03-04"])
    all[0].tags = ["keep": "no"]
    all[1].lease = 7
    all[2].hasChildren = true
    let condition = RetentionPolicy.TagCondition(key: "keep")
    #expect(
      try kept(all) {
        $0.tags = [condition, .init(key: "keep", value: "yes")]
        $0.keepsParents = true
        $0.deletesNewest = false
      } == [1: [.tag(condition)], 2: [.lease(7)], 3: [.parent], 4: [.newest]]
    )
    #expect(try kept(all) { $0.tags = [.init(key: "x")] } == [2: [.lease(7)]])
  }

  /// Periods counted by hand, from the text of the times.
  @Test("a thousand times are judged as a slow reading of their text judges them")
  func reference() throws {
    var generator = TestGenerator(seed: 31)
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    for _ in 0..<20 {
      let times = (0..<50).map { _ in
        "20\(two(generator.int(20...23)))-\(two(generator.int(1...12)))-\(two(generator.int(1...28)))"
          + "T\(two(generator.int(0...23))):\(two(generator.int(0...59)))"
      }.sorted()
      let all = candidates(times)
      let count = generator.int(1...60)
      let lengths: [(RetentionPolicy.Period, Int)] = [
        (.hourly, 13), (.daily, 10), (.monthly, 7), (.yearly, 4),
      ]
      for (period, length) in lengths {
        var expected: [Int64] = []
        var seen: [Substring] = []
        for candidate in all.reversed() {
          let bucket = candidate.startedAt.prefix(length)
          if !seen.contains(bucket), seen.count < count {
            seen.append(bucket)
            expected.append(candidate.id)
          }
        }
        let found = try kept(all) { $0.counts[period] = count }
        #expect(found.keys.sorted() == expected.sorted(), "\(period)")
      }
    }
  }

  @Test("an old snapshot that was pulled is not the reason to delete the newest")
  func pulledLater() throws {
    let all = candidates(["2026-03-01", "2026-03-05", "2024-01-01"])
    #expect(try kept(all) { $0.last = 1 } == [2: [.last], 3: [.last]])
    #expect(try kept(all) { $0.counts[.daily] = 1 }.keys.sorted() == [2, 3])
    #expect(
      try kept(all) {
        $0.tags = [.init(key: "x")]
        $0.deletesNewest = false
      } == [2: [.newest], 3: [.newest]]
    )
  }

  @Test("a time that a damaged store has is an error")
  func damagedTime() {
    #expect(throws: VMCheckpointError.self) {
      try kept([Candidate(id: 1, name: "a", vm: "a", startedAt: "yesterday")]) {
        $0.counts[.daily] = 1
      }
    }
  }
}
