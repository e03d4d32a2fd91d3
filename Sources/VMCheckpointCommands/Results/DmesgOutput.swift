import VMCheckpoint

/// What `dmesg` prints.
struct DmesgOutput: CommandOutput, Hashable {
  struct Record: Codable, Hashable, Sendable {
    @Nullable var sequence: UInt64?
    /// From the guest's boot on.
    @Nullable var nanoseconds: UInt64?
    @Nullable var level: UInt64?
    @Nullable var facility: UInt64?
    @Nullable var text: String?
    @Nullable var note: String?
  }

  var snapshot: String
  var release: String
  /// Seconds since 1970, by the guest's clock.
  @Nullable var bootSeconds: Int64?
  var records: [Record]
  var warnings: [String]
  private var style = Style()
  /// Those that the guest's memory is the reason of.
  private var ownWarnings: [String] = []

  /// How the text looks; JSON always has all.
  struct Style: Hashable, Sendable {
    enum Time: Hashable, Sendable {
      case sinceBoot, ofDay, none
    }

    var time = Time.sinceBoot
    /// Whether facilities and levels are shown.
    var isDecoded = false
  }

  enum CodingKeys: String, CodingKey {
    case snapshot, release
    case bootSeconds = "boot_seconds"
    case records, warnings
  }

  /// - Parameter levels: Records of others are left out, but those whose level cannot be read.
  init(
    _ view: GuestView<[GuestLogRecord]>,
    style: Style,
    levels: [LogLevel]?,
    warnings: [String]
  ) {
    let numbers = levels.map { Set($0.map(\.number)) }
    snapshot = view.snapshot
    release = view.release
    bootSeconds = view.bootSeconds
    records = view.content.filter { record in
      record.level.map { numbers?.contains($0) != false } ?? true
    }.map {
      Record(
        sequence: $0.sequence,
        nanoseconds: $0.nanoseconds,
        level: $0.level,
        facility: $0.facility,
        text: $0.text,
        note: $0.note
      )
    }
    self.style = style
    self.warnings = warnings
    if let note = view.note { ownWarnings.append(note) }
    let broken = records.count { $0.text == nil || $0.note != nil }
    if broken > 0 {
      ownWarnings.append("\(HumanReadable.count(broken, "record")) could not be read whole")
    }
    if style.time == .ofDay, bootSeconds == nil {
      ownWarnings.append("when the guest booted is not known: times are seconds from then")
    }
    self.warnings += ownWarnings
  }

  var notice: String? {
    ownWarnings.isEmpty ? nil : ownWarnings.joined(separator: "; ")
  }

  var text: String {
    records.map { record in
      guard let text = record.text else { return "" }
      let beginning =
        (style.isDecoded ? Self.decoded(record) : "")
        + (style.time == .none ? "" : "[\(time(record))] ")
      let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
      return lines.map { "\(beginning)\(printable($0))\n" }.joined()
    }.joined()
  }

  private static let facilities = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp",
  ]

  /// Facility and level, in columns as dmesg has them.
  private static func decoded(_ record: Record) -> String {
    func padded(_ text: String) -> String {
      text + String(repeating: " ", count: max(0, 6 - text.count)) + ":"
    }
    let facility = record.facility.map { number in
      number < UInt64(facilities.count) ? facilities[Int(number)] : "\(number)"
    }
    let level = record.level.map { number in
      number < UInt64(LogLevel.allCases.count)
        ? LogLevel.allCases[Int(number)].rawValue : "\(number)"
    }
    return padded(facility ?? "") + padded(level ?? "") + " "
  }

  /// As dmesg has it: seconds with six digits, in twelve characters at least.
  private func time(_ record: Record) -> String {
    let nanoseconds = record.nanoseconds ?? 0
    if style.time == .ofDay, let bootSeconds {
      return UTCTime.text(secondsSince1970: Int(bootSeconds &+ Int64(nanoseconds / 1_000_000_000)))
    }
    let digits = String(nanoseconds / 1000 % 1_000_000)
    let fraction = String(repeating: "0", count: 6 - digits.count) + digits
    let seconds = String(nanoseconds / 1_000_000_000)
    return String(repeating: " ", count: max(0, 5 - seconds.count)) + "\(seconds).\(fraction)"
  }
}
