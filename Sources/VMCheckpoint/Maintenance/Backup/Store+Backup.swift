extension Store {
  /// Copies the whole store into a new file, with mode 0600, while others may use the store.
  ///
  /// The copy is one moment of the store. It gets its name when it is whole and on disk. It has no leases:
  /// nobody is served from it. SQLite begins the copy anew when somebody commits meanwhile; so from the second
  /// time on saves and collections wait until the copy is made.
  ///
  /// - Parameter verifies: Whether the copy is verified before it gets its name.
  /// - Throws: ``VMCheckpointError``: `cannotCreate` when there is a file at `path`, `corrupt` when the store or
  ///   the copy is damaged, `inputOutput`, `locked`, `cancelled`. There is no copy then.
  public func backup(
    to path: String,
    verifies: Bool = false,
    control: OperationControl = OperationControl()
  ) throws(VMCheckpointError) -> BackupResult {
    let start = MonotonicClock.nowSeconds
    let place = try StoreLocation(path)
    guard NewStore.place(place) == .free else { throw Self.isTaken(path) }
    let copy = StoreCopy(of: self, control: control)
    var result = BackupResult(
      fileByteCount: 0,
      snapshotCount: 0,
      isVerified: verifies,
      durationSeconds: 0
    )
    let new = try NewStore(place) { hidden throws(VMCheckpointError) in
      try copy.write(to: hidden)
      let made = try Store.open(
        at: hidden.file,
        for: .reading,
        cancellation: control.cancellation
      )
      if verifies {
        let report = try made.verify(control: control)
        guard report.isSound else { throw Self.isDamaged(self.path, report) }
      }
      result.snapshotCount = UInt64(try made.snapshots().count)
      result.fileByteCount = try made.statistics().fileByteCount
    }
    try control.cancellation.check()
    guard try new.commit() else { throw Self.isTaken(path) }
    result.durationSeconds = MonotonicClock.nowSeconds - start
    return result
  }

  private static func isTaken(_ path: String) -> VMCheckpointError {
    VMCheckpointError(
      .cannotCreate,
      "there is a file at \(quotedName(path))",
      hint: "choose another path, or remove it first"
    )
  }

  private static func isDamaged(_ path: String, _ report: VerifyReport) -> VMCheckpointError {
    VMCheckpointError(
      .corrupt,
      "the copy is damaged, and so is store \(quotedName(path)): "
        + (report.problemCount == 1 ? "1 problem" : "\(report.problemCount) problems"),
      hint: "see what is hurt with: vmckpt verify"
    )
  }
}
