import Synchronization

/// What a server does about working sets: it plays the one that there is, or records one and stores it.
///
/// Not both: pages that are played cannot be seen being touched.
package final class WorkingSetUse: Sendable {
  /// How long a VM is watched where nothing else is asked for.
  package static let defaultSeconds = 5.0

  /// What is put in place first; `nil`: nothing is known, or it is recorded.
  package let played: WorkingSet?
  private let recorder: WorkingSetRecorder?
  private let store: Store
  private let snapshotUUID: String
  private let door: String
  private let control: OperationControl
  private let writer = Mutex<WorkerThreads?>(nil)
  private let isStored = Mutex(false)

  /// - Parameters:
  ///   - recordingSeconds: How long to record, in place of what there is; 0: do not; `nil`:
  ///     ``defaultSeconds`` if there is nothing to play.
  ///   - isSuccessor: Whether a VM is on its way already, so that its first touches were before.
  package init(
    _ store: Store,
    snapshot uuid: String,
    door: String,
    recordingSeconds: Double?,
    isSuccessor: Bool,
    control: OperationControl
  ) {
    self.store = store
    self.door = door
    self.control = control
    snapshotUUID = uuid
    var played: WorkingSet?
    if recordingSeconds ?? 0 == 0 || isSuccessor {
      do throws(VMCheckpointError) {
        played = try store.workingSet(ofSnapshot: uuid)
      } catch {
        control.onWarning?("cannot read the working set: \(error.message)")
      }
    }
    self.played = played
    let seconds = recordingSeconds ?? (played == nil ? Self.defaultSeconds : 0)
    recorder =
      seconds > 0 && !isSuccessor && !store.isReadOnly
      ? WorkingSetRecorder(durationSeconds: seconds) : nil
  }

  /// Where the caller notes what its VM touches; `nil`: nothing is recorded, or another VM is watched.
  package func claimRecorder() -> WorkingSetRecorder? {
    recorder.flatMap { $0.claim() ? $0 : nil }
  }

  /// Stores what was recorded as soon as recording is over, in a thread of its own: a store may be locked for long.
  ///
  /// - Parameter isEnding: Whether the VM that is watched has ended, or the server does.
  package func storeIfOver(isEnding: Bool = false) {
    guard let (seconds, runs) = recorder?.finish(isEnding: isEnding) else { return }
    @Sendable func write() {
      do throws(VMCheckpointError) {
        try store.replaceWorkingSet(
          ofSnapshot: snapshotUUID,
          door: door,
          durationSeconds: seconds,
          runs: runs
        )
        isStored.withLock { $0 = true }
      } catch {
        control.onWarning?("cannot store the working set: \(error.message)")
      }
    }
    do throws(VMCheckpointError) {
      let thread = try WorkerThreads(count: 1) { write() }
      writer.withLock { $0 = thread }
    } catch {
      write()
    }
  }

  /// Waits until what was recorded is stored, if anything was.
  ///
  /// - Returns: Whether it was stored.
  package func finish() -> Bool {
    storeIfOver(isEnding: true)
    let thread = writer.withLock { thread in
      defer { thread = nil }
      return thread
    }
    thread?.join()
    return isStored.withLock { $0 }
  }
}
