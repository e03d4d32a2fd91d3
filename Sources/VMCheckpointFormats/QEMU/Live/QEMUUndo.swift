import Foundation
import VMCheckpoint

/// How to put a VM back as it was before a live save.
struct QEMUUndo: Codable, Hashable {
  /// Migration capabilities that were changed, and what they were.
  var capabilities: [String: Bool]
  /// The same of migration parameters.
  var parameters: [String: Int64]
  /// Whether the guest ran.
  var wasRunning: Bool
  /// The stream that QEMU sends: it must not wait for a reader that is stopped.
  var stream: QEMUStreamPipe.Place

  /// States of a migration in which settings cannot be changed and the guest must not be let go on.
  private static let activeStates: Set<String> = [
    "setup", "cancelling", "active", "device", "pre-switchover", "wait-unplug", "colo",
    "postcopy-active", "postcopy-paused", "postcopy-recover",
  ]

  static func isActive(_ state: String) -> Bool { activeStates.contains(state) }

  /// Puts the settings back, once no migration is under way, and lets the guest go on if it ran.
  /// Doing it twice does no harm.
  ///
  /// - Throws: ``VMCheckpointError`` when QEMU does not do it.
  func perform(_ client: QMPClient, resumes: Bool) throws(VMCheckpointError) {
    let deadline = MonotonicClock.nowSeconds + 60
    while true {
      let migration = try client.object("query-migrate", ignoresCancellation: true)
      guard Self.isActive(migration["status"] as? String ?? "none") else { break }
      guard MonotonicClock.nowSeconds < deadline else {
        throw VMCheckpointError(.unavailable, "QEMU does not end its migration")
      }
      try client.run("migrate_cancel", ignoresCancellation: true)
      try client.takeEvents(ignoresCancellation: true)
    }
    // The guest first: settings can wait.
    if resumes, wasRunning { try client.run("cont", ignoresCancellation: true) }
    if !capabilities.isEmpty {
      let list = capabilities.sorted { $0.key < $1.key }.map {
        ["capability": $0.key, "state": $0.value] as [String: Any]
      }
      try client.run(
        "migrate-set-capabilities",
        ["capabilities": list],
        ignoresCancellation: true
      )
    }
    if !parameters.isEmpty {
      try client.run("migrate-set-parameters", parameters, ignoresCancellation: true)
    }
  }
}
