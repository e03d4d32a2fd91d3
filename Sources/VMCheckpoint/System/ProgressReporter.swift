/// Calls a progress callback some ten times a second, however often progress is made.
package struct ProgressReporter {
  private static let intervalSeconds = 0.1

  private let control: OperationControl
  private let phase: String
  private let totalByteCount: UInt64?
  private var nextReportSeconds = 0.0

  package init(_ control: OperationControl, phase: String, totalByteCount: UInt64?) {
    self.control = control
    self.phase = phase
    self.totalByteCount = totalByteCount
  }

  package mutating func report(completedByteCount: UInt64) {
    guard let onProgress = control.onProgress else { return }
    let now = MonotonicClock.nowSeconds
    guard now >= nextReportSeconds else { return }
    nextReportSeconds = now + Self.intervalSeconds
    onProgress(
      OperationProgress(
        phase: phase,
        completedByteCount: completedByteCount,
        totalByteCount: totalByteCount
      )
    )
  }
}
