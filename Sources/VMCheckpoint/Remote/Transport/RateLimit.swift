import Glibc
import Synchronization

/// Keeps the bytes a second of all transfers of a transport below a limit.
final class RateLimit: Sendable {
  private let bytesPerSecond: Double
  /// When all that was taken is within the limit.
  private let freeAt = Mutex(0.0)

  /// - Parameter bytesPerSecond: At least 1.
  init(bytesPerSecond: UInt64) { self.bytesPerSecond = Double(max(1, bytesPerSecond)) }

  /// The most bytes to move at once, so that waits stay short.
  var partByteCount: Int { Int(min(65_536, max(256, bytesPerSecond / 20))) }

  /// Takes room for so many bytes, and waits until it is there, or the operation is cancelled.
  func wait(byteCount: Int, cancellation: CancellationFlag) {
    let end = freeAt.withLock { freeAt in
      // A pause leaves no more than a tenth of a second's bytes to catch up with.
      freeAt = max(freeAt, MonotonicClock.nowSeconds - 0.1) + Double(byteCount) / bytesPerSecond
      return freeAt
    }
    while !cancellation.isCancelled {
      let left = end - MonotonicClock.nowSeconds
      if left <= 0 { return }
      usleep(UInt32(min(left, 0.05) * 1e6))
    }
  }
}
