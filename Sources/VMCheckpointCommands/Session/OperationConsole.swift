import Glibc
import Synchronization

/// Standard error while an operation runs: warnings, and below them one line of progress.
package final class OperationConsole: Sendable {
  private struct State {
    var meter = ProgressMeter()
    var isLineShown = false
    var warnings: [String] = []
  }

  let showsProgress: Bool
  private let printsWarnings: Bool
  private let output: OutputDescriptor
  private let state = Mutex(State())
  private let start = ContinuousClock.now

  package init(descriptor: Int32, showsProgress: Bool, printsWarnings: Bool) {
    self.output = OutputDescriptor(descriptor: descriptor)
    self.showsProgress = showsProgress
    self.printsWarnings = printsWarnings
  }

  /// In the order in which they came.
  package var warnings: [String] { state.withLock { $0.warnings } }

  /// Draws the progress, at most ten times a second.
  package func report(phase: String, completedByteCount: UInt64, totalByteCount: UInt64?) {
    guard showsProgress else { return }
    let now = ContinuousClock.now - start
    state.withLock { state in
      let reading = state.meter.read(
        phase: phase,
        completedByteCount: completedByteCount,
        totalByteCount: totalByteCount,
        at: now
      )
      guard let reading else { return }
      // The last column stays free: terminals differ in what they do after it.
      let line = reading.line(columnCount: columnCount - 1)
      write("\r\(line)\u{1B}[K")
      state.isLineShown = true
    }
  }

  /// Keeps a warning, and prints it above the progress.
  package func warn(_ message: String) {
    state.withLock { state in
      state.warnings.append(message)
      guard printsWarnings else { return }
      clearLine(&state)
      write("vmckpt: warning: \(printable(message))\n")
    }
  }

  /// Removes the progress from the terminal.
  package func finish() {
    state.withLock { clearLine(&$0) }
  }

  private func clearLine(_ state: inout State) {
    guard state.isLineShown else { return }
    write("\r\u{1B}[K")
    state.isLineShown = false
  }

  /// A terminal that went away must not end the operation.
  private func write(_ text: String) {
    try? output.write(text)
  }

  private var columnCount: Int {
    var size = winsize()
    guard ioctl(output.descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
      return 80
    }
    return Int(size.ws_col)
  }
}
