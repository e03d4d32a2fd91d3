import VMCheckpoint

/// What `vmckpt serve` starts itself with to go on when it is killed. Not for users, and so no command of
/// ArgumentParser's.
enum KeeperCommand {
  /// The first argument; those of the server follow.
  static let name = "__serve-keeper"

  /// Does a keeper's work if this process was started for that.
  ///
  /// - Returns: Whether it was.
  static func runIfAsked(_ arguments: [String]) -> Bool {
    guard arguments.count > 2, arguments[1] == name else { return false }
    ServeKeeper.run(["/proc/self/exe"] + arguments.dropFirst(2))
    return true
  }
}
