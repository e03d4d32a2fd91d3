import VMCheckpoint

/// The value of `--part`.
enum PartArgument: Hashable {
  case part(StorePart)
  /// The one of so many that was not verified for the longest time.
  case next(of: Int)

  /// Parses such as `1/30` and `next/30`.
  static func parse(_ text: String) throws(ArgumentError) -> PartArgument {
    let words = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    let isNext = words.first == "next"
    guard words.count == 2, let count = number(words[1]), let number = isNext ? 1 : number(words[0])
    else { throw ArgumentError("expected a part of how many, such as 1/30, or next/30") }
    do {
      let part = try StorePart(number, of: count)
      return isNext ? .next(of: count) : .part(part)
    } catch {
      throw ArgumentError(error.message + (error.hint.map { "; \($0)" } ?? ""))
    }
  }

  /// The part of `store` that is meant.
  func part(of store: Store) throws(VMCheckpointError) -> StorePart {
    switch self {
    case .part(let part): part
    case .next(let count): try store.nextPart(of: count)
    }
  }

  private static func number(_ text: String) -> Int? {
    (try? DecimalNumber.parse(text)).map { Int(clamping: $0) }
  }
}
