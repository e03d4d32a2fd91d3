/// What keeps a snapshot's chunks while its pages are served: a lease, or where the store may not be written, the
/// chunks' lock.
package final class ServeProtection {
  private let store: Store
  private let control: OperationControl
  package let lease: LeaseHold?
  private let chunks: StoreLock?

  /// - Parameters:
  ///   - door: How pages are served.
  ///   - target: To whom, or where: of the same door and target a lease is taken up that has lost its server.
  ///   - inherited: The lease of the server before.
  ///   - isSuccessor: Whether there was one.
  package init(
    _ store: Store,
    snapshot uuid: String,
    door: String,
    target: String,
    inherited: LeaseHold? = nil,
    isSuccessor: Bool = false,
    control: OperationControl
  ) throws(VMCheckpointError) {
    self.store = store
    self.control = control
    guard inherited == nil else {
      (lease, chunks) = (inherited, nil)
      return
    }
    guard store.isReadOnly else {
      lease = try store.takeLease(
        ofSnapshot: uuid,
        door: door,
        target: target
      )
      chunks = nil
      return
    }
    lease = nil
    chunks = try StoreLock.acquire(
      .chunks,
      .shared,
      at: store.location,
      cancellation: control.cancellation
    )
    if !isSuccessor {
      control.onWarning?(
        "store \(quotedName(store.path)) is read-only, so that there is no lease: gc and optimize wait "
          + "until this server ends"
      )
    }
  }

  /// Ends the protection.
  package func release() {
    chunks?.release()
    guard let lease else { return }
    do throws(VMCheckpointError) {
      try store.giveBack(lease)
    } catch {
      control.onWarning?(
        "cannot remove lease \(lease.id): \(error.message); remove it with: vmckpt lease drop "
          + "\(lease.id)"
      )
    }
  }
}
