import VMCheckpoint

extension QEMUMachine {
  /// The machine that a versioned name such as `pc-q35-7.2` or `pc-i440fx-7.2` belongs to, with
  /// distributions' own versions; `nil` for others, whose RAM lies elsewhere.
  init?(versionedName name: String) {
    if name == "q35" || name.hasPrefix("pc-q35-") {
      self = .q35
    } else if name == "pc" || name.hasPrefix("pc-i440fx-") {
      self = .pc
    } else {
      return nil
    }
  }
}
