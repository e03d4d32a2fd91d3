/// Turns an operation's progress into rates and times, and paces what is drawn.
package struct ProgressMeter {
  /// Ten drawings a second: more are not easier to read.
  static let interval = Duration.milliseconds(100)

  package init() {}

  private var phase: String?
  private var phaseStart = Duration.zero
  private var bytesAtPhaseStart: UInt64 = 0
  private var lastDrawn: Duration?

  /// What to draw at the time `now`, or `nil` when it is too early to draw again.
  package mutating func read(
    phase: String,
    completedByteCount: UInt64,
    totalByteCount: UInt64?,
    at now: Duration
  ) -> ProgressReading? {
    if self.phase != phase {
      self.phase = phase
      phaseStart = now
      bytesAtPhaseStart = completedByteCount
    } else if let lastDrawn, now - lastDrawn < Self.interval {
      return nil
    }
    lastDrawn = now
    let elapsed = (now - phaseStart) / .seconds(1)
    // Too little time gives rates that are only noise.
    let rate: Double? =
      elapsed >= 0.2 && completedByteCount > bytesAtPhaseStart
      ? Double(completedByteCount - bytesAtPhaseStart) / elapsed : nil
    return ProgressReading(
      phase: phase,
      completedByteCount: completedByteCount,
      totalByteCount: totalByteCount,
      bytesPerSecond: rate
    )
  }
}

/// One moment of a phase.
package struct ProgressReading: Hashable {
  package var phase: String
  package var completedByteCount: UInt64
  /// `nil`: unknown.
  package var totalByteCount: UInt64?
  /// `nil`: too early to know.
  package var bytesPerSecond: Double?

  package init(
    phase: String,
    completedByteCount: UInt64,
    totalByteCount: UInt64?,
    bytesPerSecond: Double?
  ) {
    self.phase = phase
    self.completedByteCount = completedByteCount
    self.totalByteCount = totalByteCount
    self.bytesPerSecond = bytesPerSecond
  }

  /// One line of at most `columnCount` characters, such as
  /// `saving  42% [========            ] 430.1 MiB of 1.0 GiB, 910.2 MiB/s, ETA 0:01`.
  ///
  /// Where that is too long, the bar goes first, then the time, the rate and the sizes.
  package func line(columnCount: Int) -> String {
    let phase = printable(phase)
    let rate = bytesPerSecond.map { "\(HumanReadable.bytes(UInt64(min($0, 1e18))))/s" }
    guard let totalByteCount else {
      let pieces = [HumanReadable.bytes(completedByteCount), rate].compactMap(\.self)
      return fit("\(phase)  ", pieces, columnCount)
    }
    let head = "\(phase) \(percent(of: totalByteCount)) "
    let sizes =
      "\(HumanReadable.bytes(completedByteCount)) of \(HumanReadable.bytes(totalByteCount))"
    let pieces = [sizes, rate, remaining(of: totalByteCount)].compactMap(\.self)
    let text = pieces.joined(separator: ", ")
    let room = columnCount - head.count - text.count - 3
    guard room >= 10 else { return fit(head, pieces, columnCount) }
    // On 80 columns there is room for 20 beside all of the pieces: the bar keeps its width when
    // a rate and a time join.
    return "\(head)\(bar(of: totalByteCount, width: min(room, 20))) \(text)"
  }

  /// `head` with as many of `pieces` as there is room for.
  private func fit(_ head: String, _ pieces: [String], _ columnCount: Int) -> String {
    var count = pieces.count
    while count > 0 {
      let line = head + pieces.prefix(count).joined(separator: ", ")
      if line.count <= columnCount { return line }
      count -= 1
    }
    return String(head.prefix(max(0, columnCount)))
  }

  private func fraction(of total: UInt64) -> Double {
    total == 0 ? 1 : min(1, Double(completedByteCount) / Double(total))
  }

  /// Three digits and the sign. 100% only when all is done.
  private func percent(of total: UInt64) -> String {
    let text = "\(Int(fraction(of: total) * 100))%"
    return String(repeating: " ", count: 4 - text.count) + text
  }

  private func bar(of total: UInt64, width: Int) -> String {
    let filled = Int(fraction(of: total) * Double(width))
    return "[" + String(repeating: "=", count: filled)
      + String(repeating: " ", count: width - filled) + "]"
  }

  private func remaining(of total: UInt64) -> String? {
    guard let bytesPerSecond, bytesPerSecond > 0, completedByteCount < total else { return nil }
    let seconds = Double(total - completedByteCount) / bytesPerSecond
    // Beyond four days an estimate does not help.
    guard seconds < 360_000 else { return nil }
    return "ETA \(HumanReadable.clock(seconds: UInt64(seconds.rounded(.up))))"
  }
}
