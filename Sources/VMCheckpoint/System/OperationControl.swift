import Synchronization

/// Ends what a running operation does: at once when somebody asks for it, and its waits for other programs
/// when they take too long. The thread that works shares it with threads that may cancel it.
public final class CancellationFlag: Sendable {
  /// How long an operation waits for another program's lock, where nobody says otherwise. Writers'
  /// transactions take tens of milliseconds, but a reader in a SQLite shell may hold one for long.
  public static let defaultLockWaitSeconds = 60.0

  private let requested = Atomic<Bool>(false)
  private let lockWait: Atomic<UInt64>

  /// A flag that is not cancelled.
  ///
  /// - Parameter lockWaitSeconds: How long one wait for another program's lock may take; 0 for none.
  public init(lockWaitSeconds: Double = CancellationFlag.defaultLockWaitSeconds) {
    lockWait = Atomic(lockWaitSeconds.bitPattern)
  }

  /// How long one wait for another program's lock may take. An operation takes it when it begins.
  public var lockWaitSeconds: Double {
    get { Double(bitPattern: lockWait.load(ordering: .relaxed)) }
    set { lockWait.store(newValue.bitPattern, ordering: .relaxed) }
  }

  /// Whether ``cancel()`` was called.
  public var isCancelled: Bool { requested.load(ordering: .relaxed) }

  /// Asks to stop. The operation ends soon after with the code `cancelled`, and what it had
  /// begun is cleaned up. Safe to call in a signal handler.
  public func cancel() { requested.store(true, ordering: .relaxed) }

  /// - Throws: ``VMCheckpointError`` with the code `cancelled` once ``cancel()`` was called.
  package func check() throws(VMCheckpointError) {
    if isCancelled { throw VMCheckpointError(.cancelled, "interrupted") }
  }
}

/// How far a long operation has come.
public struct OperationProgress: Sendable, Hashable {
  /// What is being done, for a person: `saving`, `freeing chunks`.
  public var phase: String

  /// How much of the phase is done, in the unit of `totalByteCount`.
  public var completedByteCount: UInt64

  /// The size of the phase's work, or `nil` when it is not known, as for a pipe.
  public var totalByteCount: UInt64?
}

/// What the caller of a long operation may steer and hear.
public struct OperationControl: Sendable {
  /// Checked at least every few milliseconds of work.
  public var cancellation: CancellationFlag

  /// Called from the operation's threads, one call at a time, some ten times a second.
  public var onProgress: (@Sendable (OperationProgress) -> Void)?

  /// Called with a one-line message about something that the user should know and that does not
  /// stop the operation.
  public var onWarning: (@Sendable (String) -> Void)?

  /// The most worker threads that an operation has. More would not speed it up, as one thread has to
  /// feed them all and to write what they made; but each costs memory for its buffers.
  public static let maximumThreadCount = 16

  /// Worker threads, 1 to ``maximumThreadCount``; by default one a core.
  public let threadCount: Int

  /// New pages of a save that are noted before they are written to the page index, a power of two; `nil`:
  /// as many as is good. Tests make it small; else only guests with gigabytes of new pages come to it.
  package var newPageCapacity: Int?

  /// - Parameter threadCount: `nil` for one worker a core. More than ``maximumThreadCount`` count as
  ///   that many.
  public init(
    cancellation: CancellationFlag = CancellationFlag(),
    threadCount: Int? = nil,
    onProgress: (@Sendable (OperationProgress) -> Void)? = nil,
    onWarning: (@Sendable (String) -> Void)? = nil
  ) {
    self.cancellation = cancellation
    self.onProgress = onProgress
    self.onWarning = onWarning
    self.threadCount = min(
      max(1, threadCount ?? ProcessorCount.available),
      Self.maximumThreadCount
    )
  }
}
