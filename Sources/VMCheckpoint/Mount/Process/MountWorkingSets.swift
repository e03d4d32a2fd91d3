import Synchronization

/// What a mount does about working sets: of each snapshot that a VM runs from, it plays the one that there is, or records
/// one and stores it.
///
/// A VM opens its RAM for writing, as QEMU does, although it never writes. Who copies or searches RAM opens it for
/// reading, and would leave a set that helps nobody. Recorded is what the kernel asks for: what a program touches,
/// and what the kernel reads around it. So the kernel must have nothing of the file in its memory then, and nobody
/// else may read it: recording begins only with the first file that is opened of a snapshot.
///
/// Thread-safe. But for ``touch(_:by:)``, all is called by the one thread that may write to the store.
final class MountWorkingSets: Sendable {
  /// What is to be done when a file was opened.
  enum Start {
    case nothing
    /// The kernel is to forget what it has of the file, before anybody reads it.
    case recording
    case playing(WorkingSet)
  }

  private struct Watch {
    var use: WorkingSetUse
    var recorder: WorkingSetRecorder
    /// The nodes of the files that are watched, by their handles.
    var nodes: [UInt64: UInt64]
  }

  private struct State {
    var watches: [Int64: Watch] = [:]
    /// By the handles of the files that are watched.
    var recorders: [UInt64: WorkingSetRecorder] = [:]
    /// Snapshots whose set is as new as was asked for.
    var recorded: Set<Int64> = []
    /// The nodes that were played, and are open since, with their snapshots.
    var played: [UInt64: Int64] = [:]
  }

  private let store: Store
  /// As ``MountRequest/recordingSeconds``.
  private let seconds: Double?
  private let control: OperationControl
  private let state = Mutex(State())
  /// Whether there are recorders: reads look here first.
  private let isRecording = Atomic<Bool>(false)

  init(_ store: Store, recordingSeconds: Double?, warn: @escaping @Sendable (String) -> Void) {
    self.store = store
    seconds = recordingSeconds
    var control = OperationControl()
    control.onWarning = warn
    self.control = control
  }

  /// A VM has opened a file with RAM.
  ///
  /// - Parameter isFirst: Whether no other file with RAM of the snapshot is open.
  func opened(
    _ handle: UInt64,
    _ node: UInt64,
    of snapshot: MountedSnapshot,
    isFirst: Bool
  ) -> Start {
    // 1. Another file of a VM that is watched belongs to its RAM. The same file once more is another VM's.
    let isWatched = state.withLock { state -> Bool? in
      guard var watch = state.watches[snapshot.id] else { return nil }
      guard !watch.nodes.values.contains(node) else { return false }
      watch.nodes[handle] = node
      state.watches[snapshot.id] = watch
      state.recorders[handle] = watch.recorder
      return true
    }
    if let isWatched { return isWatched ? .recording : .nothing }
    guard state.withLock({ $0.played[node] == nil }) else { return .nothing }

    // 2. A new one.
    let isRecorded = state.withLock { $0.recorded.contains(snapshot.id) }
    let use = WorkingSetUse(
      store,
      snapshot: snapshot.uuid,
      door: Lease.mountDoor,
      recordingSeconds: isFirst ? (isRecorded ? nil : seconds) : 0,
      isSuccessor: false,
      control: control
    )
    if let set = use.played {
      state.withLock { $0.played[node] = snapshot.id }
      return .playing(set)
    }
    guard let recorder = use.claimRecorder() else { return .nothing }
    state.withLock { state in
      state.watches[snapshot.id] = Watch(use: use, recorder: recorder, nodes: [handle: node])
      state.recorders[handle] = recorder
    }
    isRecording.store(true, ordering: .releasing)
    return .recording
  }

  /// A file was closed.
  ///
  /// - Parameter isLast: Whether no file with RAM of the snapshot is open any more.
  func closed(_ handle: UInt64, of snapshot: Int64, isLast: Bool) {
    let isOver = state.withLock { state -> Bool in
      if isLast { state.played = state.played.filter { $0.value != snapshot } }
      state.recorders[handle] = nil
      guard state.watches[snapshot]?.nodes.removeValue(forKey: handle) != nil else { return false }
      return state.watches[snapshot]?.nodes.isEmpty == true
    }
    if isOver { store(snapshot) }
  }

  /// Pages are about to be read that the kernel has not in its memory.
  func touch(_ pfns: Range<UInt64>, by handle: UInt64) {
    guard isRecording.load(ordering: .acquiring) else { return }
    state.withLock { $0.recorders[handle] }?.note(pfns)
  }

  /// The snapshots that were watched for long enough.
  var due: [Int64] {
    guard isRecording.load(ordering: .acquiring) else { return [] }
    return state.withLock { state in
      state.watches.filter { $0.value.recorder.remainingSeconds == 0 }.map(\.key)
    }
  }

  /// Ends the recording of a snapshot, and stores what is worth it.
  func store(_ snapshot: Int64) {
    let watch = state.withLock { state -> Watch? in
      guard let watch = state.watches.removeValue(forKey: snapshot) else { return nil }
      for handle in watch.nodes.keys { state.recorders[handle] = nil }
      if state.watches.isEmpty { isRecording.store(false, ordering: .releasing) }
      return watch
    }
    guard let watch, watch.use.finish() else { return }
    _ = state.withLock { $0.recorded.insert(snapshot) }
  }

  /// Ends all recordings.
  func end() {
    for snapshot in state.withLock({ Array($0.watches.keys) }) { store(snapshot) }
  }
}
