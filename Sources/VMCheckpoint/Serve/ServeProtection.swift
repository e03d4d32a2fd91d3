/// What keeps a snapshot's chunks while its pages are served: a lease, or where the store may not be written, or its
/// disk has no room for a row, the chunks' lock.
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
    var reason: String?
    if !store.isReadOnly {
      do throws(VMCheckpointError) {
        lease = try store.takeLease(ofSnapshot: uuid, door: door, target: target)
        chunks = nil
        return
      } catch {
        // A VM that is to start cannot wait until a disk has room again.
        guard error.code == .inputOutput else { throw error }
        reason = Self.withoutLease(error, for: "this server runs")
      }
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
        reason
          ?? "store \(quotedName(store.path)) is read-only, so that there is no lease: gc and optimize wait "
          + "until this server ends"
      )
    }
  }

  /// What to say when the store has no room for a lease.
  ///
  /// - Parameter condition: For how long others wait.
  static func withoutLease(_ error: VMCheckpointError, for condition: String) -> String {
    "\(error.message), so that there is no lease: gc and optimize wait for as long as \(condition); do not "
      + "delete or prune the snapshot meanwhile"
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
