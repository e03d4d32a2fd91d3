import Synchronization

/// What a page server has done.
public struct ServeCounts: Sendable, Hashable, Codable {
  /// Faults that were answered. One answer may put more than one page in place.
  public var faultCount: UInt64 = 0
  /// Stored pages that were put in place for faults.
  public var faultPageCount: UInt64 = 0
  /// Pages of zeros that were put in place for faults.
  public var zeroPageCount: UInt64 = 0
  /// Pages that were put in place because a working set has them, zeros too.
  public var workingSetPageCount: UInt64 = 0
  /// Stored pages that were put in place in the background.
  public var backgroundPageCount: UInt64 = 0
  /// Pages that the VM gave back, and that are zeros since.
  public var removedPageCount: UInt64 = 0
  /// Pages that could not be read, so that an access to them is an error.
  public var poisonedPageCount: UInt64 = 0
  /// Chunks that were decoded.
  public var decodedChunkCount: UInt64 = 0
  /// Chunks that came from a remote.
  public var remoteChunkCount: UInt64 = 0
  /// Bytes in them, as they are stored.
  public var remoteByteCount: UInt64 = 0
  /// How often a remote did not give what was asked for, though it was asked several times.
  public var remoteWaitCount: UInt64 = 0
  /// Seconds for which that lasted in all.
  public var remoteWaitSeconds = 0.0
  /// Seconds from reading a fault to its answer that half of all faults took at most; `nil` without faults.
  public var faultSecondsP50: Double?
  /// The same for 99 of 100 faults.
  public var faultSecondsP99: Double?
}

/// Counts that threads add to together.
final class ServeCounter: Sendable {
  private struct State {
    var counts = ServeCounts()
    var faultTimes = LatencyHistogram()
  }

  private let state = Mutex(State())

  func add(_ body: (inout ServeCounts) -> Void) { state.withLock { body(&$0.counts) } }

  /// One fault and how long its answer took.
  func addFault(nanoseconds: UInt64) {
    state.withLock {
      $0.counts.faultCount += 1
      $0.faultTimes.add(nanoseconds)
    }
  }

  var counts: ServeCounts {
    state.withLock {
      var counts = $0.counts
      counts.faultSecondsP50 = $0.faultTimes.percentile(0.5).map { Double($0) / 1e9 }
      counts.faultSecondsP99 = $0.faultTimes.percentile(0.99).map { Double($0) / 1e9 }
      return counts
    }
  }
}
