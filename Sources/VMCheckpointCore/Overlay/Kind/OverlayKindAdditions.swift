import Synchronization

/// Kinds beside those of ``OverlayKind/all``: those of tests.
package enum OverlayKindAdditions {
  private static let added = Mutex<[any OverlayKindDefinition.Type]>([])

  static var all: [any OverlayKindDefinition.Type] { added.withLock { $0 } }

  /// Makes a kind known to the whole process from here on.
  package static func add(_ kind: any OverlayKindDefinition.Type) {
    added.withLock { $0.append(kind) }
  }
}
