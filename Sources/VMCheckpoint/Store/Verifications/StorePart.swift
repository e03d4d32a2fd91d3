/// One of equal parts of a store, so that as many verifications read all of it.
///
/// A chunk and a snapshot are in the same part for as long as they live: by their numbers, which are never given
/// again. What is moved to new chunks was read when it was moved.
public struct StorePart: Sendable, Codable, Hashable {
  /// From 1 to ``count``.
  public let number: Int
  /// How many parts there are, up to ``maximumCount``.
  public let count: Int

  /// The most parts that a store is verified in.
  public static let maximumCount = 1000

  /// All of it.
  public static let whole = StorePart(unchecked: 1, of: 1)

  /// - Throws: ``VMCheckpointError`` with the code `invalidArgument` when there is no such part.
  public init(_ number: Int, of count: Int) throws(VMCheckpointError) {
    guard (1...Self.maximumCount).contains(count), (1...count).contains(number) else {
      throw VMCheckpointError(
        .invalidArgument,
        "there is no part \(number) of \(count)",
        hint: "give one such as 1/30, with up to \(Self.maximumCount) parts"
      )
    }
    self.init(unchecked: number, of: count)
  }

  private init(unchecked number: Int, of count: Int) {
    self.number = number
    self.count = count
  }

  /// Whether this is the whole store.
  public var isWhole: Bool { count == 1 }

  /// Whether the chunk or snapshot with this number is in it.
  func contains(_ id: Int64) -> Bool {
    isWhole || Int(id.magnitude % UInt64(count)) == number - 1
  }
}
