import VMCheckpoint

extension CaptureContext {
  /// A snapshot of the same store, which pages of the new one come from.
  ///
  /// - Returns: A reader of its bare RAM, and its device states.
  /// - Throws: ``VMCheckpointError``: `notFound`, `corrupt`; `invalidArgument` where there is no store.
  func stored(
    _ reference: SnapshotReference
  ) throws(VMCheckpointError) -> (reader: SnapshotReader, deviceStates: [DeviceState]) {
    guard let storePath else {
      throw VMCheckpointError(
        .invalidArgument,
        "pages that a diff leaves out come from a snapshot, and a conversion uses no store",
        hint: "save the diff, and restore the snapshot"
      )
    }
    let reader = try SnapshotReader(
      storePath: storePath,
      reference: reference,
      overlays: .omit
    )
    let store = try Store.open(at: storePath)
    return (reader, try store.deviceStates(of: SnapshotReference(reader.uuid)))
  }
}
