import Glibc

/// The lock of a store's chunks, shared, which is given up now and then: whoever frees chunks gets it meanwhile.
final class ChunksHold {
  /// Who waits for the lock asks for it some fifty times a second: nobody gets it who never finds it free.
  private static let pauseMicroseconds: UInt32 = 30_000
  private static let longestSeconds = 1.0

  private let location: StoreLocation
  private let cancellation: CancellationFlag
  private var lock: StoreLock?
  private var takenSeconds = 0.0

  init(_ location: StoreLocation, _ cancellation: CancellationFlag) {
    self.location = location
    self.cancellation = cancellation
  }

  /// Whether it is time to let others have it.
  var isLong: Bool {
    lock != nil && MonotonicClock.nowSeconds - takenSeconds >= Self.longestSeconds
  }

  /// Takes the lock, and waits for it.
  ///
  /// - Throws: ``VMCheckpointError`` with the code `locked` or `cancelled`; as opening its file.
  func take() throws(VMCheckpointError) {
    guard lock == nil else { return }
    lock = try StoreLock.acquire(.chunks, .shared, at: location, cancellation: cancellation)
    takenSeconds = MonotonicClock.nowSeconds
  }

  /// Gives the lock up.
  func drop() {
    lock?.release()
    lock = nil
  }

  /// Leaves the time in which who waits for the lock gets it, while it is given up.
  func pause() { usleep(Self.pauseMicroseconds) }
}
