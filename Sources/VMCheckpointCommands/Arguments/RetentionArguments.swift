import VMCheckpoint

/// How many snapshots a rule of `prune` keeps.
enum RetentionCount {
  /// Parses such as `7`, and `unlimited`.
  static func parse(_ text: String) throws(ArgumentError) -> Int {
    if text == "unlimited" { return RetentionPolicy.unlimited }
    let count: UInt64
    do {
      count = try DecimalNumber.parse(text)
    } catch {
      throw ArgumentError("expected a number of snapshots, or 'unlimited'")
    }
    guard count > 0 else {
      throw ArgumentError("a rule keeps at least 1; leave it out to keep none")
    }
    return Int(clamping: count)
  }
}

/// A span of time in the calendar's units.
enum DurationArgument {
  /// Far beyond the calendar's use.
  private static let maximumNumber = 10_000

  /// Parses such as `7d`, `36h`, `2w` and `1y6m`: years, months, weeks, days and hours in this order.
  static func parse(_ text: String) throws(ArgumentError) -> CalendarDuration {
    var duration = CalendarDuration()
    var units = Array("ymwdh")[...]
    var digits = ""
    for character in text {
      if character.isASCII, character.isNumber {
        digits.append(character)
        continue
      }
      guard let number = Int(digits), number <= maximumNumber,
        let place = units.firstIndex(of: character)
      else { throw failure }
      units = units[(place + 1)...]
      digits = ""
      switch character {
      case "y": duration.years = number
      case "m": duration.months = number
      case "w": duration.days += number * 7
      case "d": duration.days += number
      default: duration.hours = number
      }
    }
    guard digits.isEmpty, duration != CalendarDuration() else { throw failure }
    return duration
  }

  private static var failure: ArgumentError {
    ArgumentError("expected a span of time such as 7d, 36h, 2w or 1y6m")
  }
}

/// What groups snapshots for `prune`.
enum GroupingArgument {
  /// Parses such as `vm`, `vm,tag:disk` and `none`.
  static func parse(_ text: String) throws(ArgumentError) -> [RetentionPolicy.Grouping] {
    if text == "none" { return [] }
    var groupings: [RetentionPolicy.Grouping] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      if part == "vm" {
        groupings.append(.vm)
      } else if part.hasPrefix("tag:"), part.utf8.count > 4 {
        groupings.append(.tag(String(part.dropFirst(4))))
      } else {
        throw ArgumentError("expected 'vm', 'tag:KEY', several of these with commas, or 'none'")
      }
    }
    return groupings
  }
}

/// Snapshots that have a tag.
enum TagConditionArgument {
  /// Parses `KEY` and `KEY=VALUE`.
  static func parse(_ text: String) throws(ArgumentError) -> RetentionPolicy.TagCondition {
    guard text.contains("=") else {
      do {
        try SnapshotTag.check(key: text, value: "")
      } catch {
        throw ArgumentError(error.description)
      }
      return RetentionPolicy.TagCondition(key: text)
    }
    let tag = try TagArgument.parse(text)
    return RetentionPolicy.TagCondition(key: tag.key, value: tag.value)
  }
}
