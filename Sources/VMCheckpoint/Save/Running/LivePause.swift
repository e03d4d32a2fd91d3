/// How the stop of a VM that is saved live is kept short.
public enum PauseMethod: String, Sendable, Codable, Hashable, CaseIterable {
  /// RAM was read while the VM ran, and compared while it was stopped.
  case twoPass = "two-pass"
  /// The VMM took the devices' state while the VM was stopped, and RAM later, each page before it changed.
  case backgroundSnapshot = "background-snapshot"
  /// The VMM sent RAM while the VM ran, and what changed meanwhile while it was stopped.
  case precopy = "pre-copy"
  /// It was not: all of RAM was read, or sent, while the VM was stopped.
  case stopped
}

/// For how long a VM was stopped to be saved.
package struct LivePause: Sendable {
  /// By the VMM's clock.
  package var seconds: Double
  package var method: PauseMethod

  package init(seconds: Double, method: PauseMethod) {
    self.seconds = seconds
    self.method = method
  }
}
