import Foundation

/// Random identifiers for stores and snapshots.
enum UniqueID {
  /// A version 4 UUID in lower case.
  static func make() -> String { UUID().uuidString.lowercased() }
}
