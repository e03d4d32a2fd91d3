import Synchronization

/// A stage of an operation's work: what limits the operation shows in its longest stage.
public struct StageTime: Sendable, Codable, Hashable {
  /// The stage's name, as ``SaveResult/stages``, ``RestoreResult/stages`` and ``ConvertResult/stages`` list them.
  public var stage: String

  /// How long threads were in the stage, all of them added up, waits for the disk or the source
  /// included.
  public var seconds: Double

  /// The bytes that went through the stage.
  public var byteCount: UInt64
}

/// The stages of a save, in the order in which a page passes them.
package enum SaveStage: String, CaseIterable, Sendable {
  case read, scan, digest
  case lookUp = "look-up"
  case compress, write, sync
}

/// The stages of a restore.
package enum RestoreStage: String, CaseIterable, Sendable {
  case read, decompress, write, sync
}

/// Adds up how long the threads of an operation are in each stage. Meant for steps of a chunk or
/// more: a measurement takes about 0.1 µs.
package final class StageClock<Stage>: Sendable
where Stage: RawRepresentable<String> & CaseIterable & Hashable & Sendable {
  private struct Sum {
    var seconds = 0.0
    var byteCount: UInt64 = 0
  }

  private let sums = Mutex<[Stage: Sum]>([:])

  /// A clock of which no stage has begun.
  package init() {}

  /// Runs `body` as part of `stage`.
  package func measure<Result, Failure: Error>(
    _ stage: Stage,
    byteCount: Int = 0,
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let start = MonotonicClock.nowSeconds
    defer { add(stage, seconds: MonotonicClock.nowSeconds - start, byteCount: byteCount) }
    return try body()
  }

  package func add(_ stage: Stage, seconds: Double, byteCount: Int = 0) {
    sums.withLock { sums in
      sums[stage, default: Sum()].seconds += seconds
      sums[stage, default: Sum()].byteCount += UInt64(byteCount)
    }
  }

  /// All stages, in their order.
  package var times: [StageTime] {
    let sums = sums.withLock { $0 }
    return Stage.allCases.map { stage in
      let sum = sums[stage] ?? Sum()
      return StageTime(stage: stage.rawValue, seconds: sum.seconds, byteCount: sum.byteCount)
    }
  }
}
