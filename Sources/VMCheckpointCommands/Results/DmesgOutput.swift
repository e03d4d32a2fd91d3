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
  /// Whether the text has the time of day.
  private var showsTimeOfDay = false

  enum CodingKeys: String, CodingKey {
    case snapshot, release
    case bootSeconds = "boot_seconds"
    case records, warnings
  }

  init(_ view: GuestView<[GuestLogRecord]>, showsTimeOfDay: Bool, warnings: [String]) {
    snapshot = view.snapshot
    release = view.release
    bootSeconds = view.bootSeconds
    records = view.content.map {
      Record(
        sequence: $0.sequence,
        nanoseconds: $0.nanoseconds,
        level: $0.level,
        facility: $0.facility,
        text: $0.text,
        note: $0.note
      )
    }
    self.warnings = warnings
    self.showsTimeOfDay = showsTimeOfDay
    if showsTimeOfDay, bootSeconds == nil {
      self.warnings.append("when the guest booted is not known: times are seconds from then")
    }
  }

  var notice: String? {
    let broken = records.count { $0.text == nil || $0.note != nil }
    if broken > 0 { return "\(HumanReadable.count(broken, "record")) could not be read whole" }
    return showsTimeOfDay && bootSeconds == nil ? warnings.last : nil
  }

  var text: String {
    records.map { record in
      guard let text = record.text else { return "" }
      let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
      return lines.map { "[\(time(record))] \(printable($0))\n" }.joined()
    }.joined()
  }

  /// As dmesg has it: seconds with six digits, in twelve characters at least.
  private func time(_ record: Record) -> String {
    let nanoseconds = record.nanoseconds ?? 0
    if showsTimeOfDay, let bootSeconds {
      return UTCTime.text(secondsSince1970: Int(bootSeconds &+ Int64(nanoseconds / 1_000_000_000)))
    }
    let digits = String(nanoseconds / 1000 % 1_000_000)
    let fraction = String(repeating: "0", count: 6 - digits.count) + digits
    let seconds = String(nanoseconds / 1_000_000_000)
    return String(repeating: " ", count: max(0, 5 - seconds.count)) + "\(seconds).\(fraction)"
  }
}
