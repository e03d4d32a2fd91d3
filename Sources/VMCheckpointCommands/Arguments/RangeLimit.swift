/// How many ranges of pages `diff` lists in each class.
enum RangeLimit: Hashable, Sendable {
  case all
  case count(Int)

  /// What a screen can show.
  static let forText = RangeLimit.count(20)

  /// Parses a number or `all`.
  static func parse(_ text: String) throws(ArgumentError) -> RangeLimit {
    if text == "all" { return .all }
    let count: UInt64
    do {
      count = try DecimalNumber.parse(text)
    } catch {
      throw ArgumentError("expected a number of ranges, or 'all'")
    }
    return .count(Int(clamping: count))
  }

  /// For the library.
  var maximumRangeCount: Int {
    switch self {
    case .all: .max
    case .count(let count): count
    }
  }
}
