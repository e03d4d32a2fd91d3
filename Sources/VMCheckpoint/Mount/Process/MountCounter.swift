import Synchronization

/// What a mount has done. A server that was killed takes its part with it.
public struct MountCounts: Sendable, Hashable, Codable {
  /// Requests of the kernel for bytes of files with RAM. What the kernel has in memory is read without one.
  public var readCount: UInt64 = 0
  /// Bytes that these gave.
  public var readByteCount: UInt64 = 0
  /// Reads that failed.
  public var failedReadCount: UInt64 = 0
  /// Chunks that were decoded.
  public var decodedChunkCount: UInt64 = 0
  /// Chunks that came from remotes.
  public var remoteChunkCount: UInt64 = 0
  /// Of these chunks.
  public var remoteByteCount: UInt64 = 0
  /// How often a remote gave nothing, though it was asked several times.
  public var remoteWaitCount: UInt64 = 0
  /// How long that lasted in all.
  public var remoteWaitSeconds = 0.0
  /// Seconds that half of all reads took at most; `nil` without reads.
  public var readSecondsP50: Double?
  /// The same for 99 of 100 reads.
  public var readSecondsP99: Double?
}

extension MountCounts {
  /// Adds what a reader brought from remotes, and how often and how long they gave nothing.
  mutating func addBrought(by reader: SnapshotReader) {
    let brought = reader.supply.counts
    remoteChunkCount += brought.chunkCount
    remoteByteCount += brought.byteCount
    remoteWaitCount += brought.waitCount
    remoteWaitSeconds += brought.waitSeconds
  }
}

/// Counts that threads add to together.
final class MountCounter: Sendable {
  private struct State {
    var counts = MountCounts()
    var times = LatencyHistogram()
  }

  private let state = Mutex(State())

  func addRead(byteCount: Int, nanoseconds: UInt64) {
    state.withLock {
      $0.counts.readCount += 1
      $0.counts.readByteCount += UInt64(byteCount)
      $0.times.add(nanoseconds)
    }
  }

  func addFailure() { state.withLock { $0.counts.failedReadCount += 1 } }

  var counts: MountCounts {
    state.withLock {
      var counts = $0.counts
      counts.readSecondsP50 = $0.times.percentile(0.5).map { Double($0) / 1e9 }
      counts.readSecondsP99 = $0.times.percentile(0.99).map { Double($0) / 1e9 }
      return counts
    }
  }
}
