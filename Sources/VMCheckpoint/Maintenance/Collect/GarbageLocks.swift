/// The locks under which chunks are freed: nobody reads or adds chunks.
struct GarbageLocks {
  private let writer: StoreLock
  private let chunks: StoreLock

  init(
    at location: StoreLocation,
    timeoutSeconds: Double? = nil,
    cancellation: CancellationFlag
  ) throws(VMCheckpointError) {
    writer = try StoreLock.acquire(
      .writer,
      .exclusive,
      at: location,
      timeoutSeconds: timeoutSeconds,
      cancellation: cancellation
    )
    chunks = try StoreLock.acquire(
      .chunks,
      .exclusive,
      at: location,
      timeoutSeconds: timeoutSeconds,
      cancellation: cancellation
    )
  }

  /// The locks, or `nil` when somebody holds one of them.
  static func ifFree(
    at location: StoreLocation,
    _ control: OperationControl
  ) throws(VMCheckpointError) -> GarbageLocks? {
    do throws(VMCheckpointError) {
      return try GarbageLocks(
        at: location,
        timeoutSeconds: 0,
        cancellation: control.cancellation
      )
    } catch {
      guard error.code == .locked else { throw error }
      return nil
    }
  }

  /// Checks that the locks still keep others out.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `locked` when the lock file was removed.
  func requireInPlace() throws(VMCheckpointError) {
    try writer.requireInPlace()
    try chunks.requireInPlace()
  }

  /// Keeps the locks until here.
  func release() {
    chunks.release()
    writer.release()
  }
}
