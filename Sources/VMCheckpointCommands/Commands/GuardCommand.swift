import VMCheckpointFormats

/// What `vmckpt` starts itself with to guard a VM that it saves. Not for users, and so no command of
/// ArgumentParser's.
enum GuardCommand {
  /// The first argument; the plan is the second.
  static let name = "__qemu-guard"

  /// Does a guard's work if this process was started for that.
  ///
  /// - Returns: Whether it was.
  static func runIfAsked(_ arguments: [String]) -> Bool {
    guard arguments.count == 3, arguments[1] == name else { return false }
    QEMUGuard.run(plan: arguments[2])
    return true
  }
}
