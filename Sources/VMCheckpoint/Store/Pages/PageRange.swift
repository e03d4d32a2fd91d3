/// A run of consecutive pages.
public struct PageRange: Sendable, Codable, Hashable {
  /// The first page.
  public var firstPFN: UInt64
  /// How many pages.
  public var pageCount: UInt64
}

/// How the pages of one class differ between two snapshots.
public struct PageChanges: Sendable, Codable, Hashable {
  /// How many pages.
  public var pageCount: UInt64

  /// In ascending order, with no two adjacent; cut after the number of ranges asked for.
  public var ranges: [PageRange]

  /// How many ranges there are in all.
  public var rangeCount: UInt64
}
