import Synchronization

/// Processes that are not this one's children, such as what a command leaves running, as `/proc` lists them.
package enum OtherProcesses {
  /// Whether a process has ended, and what it had open is closed: sockets, pipes, and the locks on files.
  ///
  /// A process that was killed loses its arguments first, and each of its threads ends by itself. The files are closed
  /// with the last of them.
  package static func hasEnded(_ process: Int32) -> Bool {
    let threads = directoryEntries("/proc/\(process)/task")
    return threads.allSatisfy { ["Z", "X", nil].contains(state(process, $0)) }
  }

  /// Whether a process is stopped, so that no thread of it does anything before it is continued, or is gone.
  package static func isStopped(_ process: Int32) -> Bool {
    let threads = directoryEntries("/proc/\(process)/task")
    return threads.allSatisfy { ["T", "t", "Z", "X", nil].contains(state(process, $0)) }
  }

  /// The kernel's letter for what a thread does; `nil` when there is no such thread any more.
  private static func state(_ process: Int32, _ thread: String) -> Character? {
    // The letter follows the name in brackets, which may have brackets in it.
    guard let stat = try? readFile(procFile: "/proc/\(process)/task/\(thread)/stat"),
      let bracket = stat.lastIndex(of: ")")
    else { return nil }
    return stat[bracket...].dropFirst(2).first
  }

  /// What a process has open, where it can be read.
  package static func openFiles(_ process: Int32) -> [String] {
    directoryEntries("/proc/\(process)/fd").compactMap { readLink("/proc/\(process)/fd/\($0)") }
  }
}

/// Processes that were seen once, so that their end can be waited for when nothing but their numbers is left of them.
final class SeenProcesses: Sendable {
  private let all = Mutex<Set<Int32>>([])

  func note(_ processes: [Int32]) { all.withLock { $0.formUnion(processes) } }

  /// Waits until none of them runs any more, and `running` finds no other.
  func waitUntilGone(_ what: String, _ running: () -> [Int32]) throws {
    // One that was just made may not be in the first list.
    var emptyCount = 0
    try waitUntil(what) {
      let processes = running()
      note(processes)
      emptyCount = processes.isEmpty ? emptyCount + 1 : 0
      // The number of one that has ended may become another's.
      return all.withLock { all in
        all = all.filter { !OtherProcesses.hasEnded($0) }
        return emptyCount > 1 && all.isEmpty
      }
    }
  }
}
