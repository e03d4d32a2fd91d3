import Foundation
import Glibc

/// What a child is doing, as the kernel shows it. A test that needs a command in the midst of something
/// waits for that: after a fixed time the command may not have begun, and the test would pass without it.
extension ChildProcess {
  /// What a process can wait for.
  package enum Wait {
    /// A lock on the file at this path, absolute and without links, that another process has. The process
    /// sleeps between its attempts.
    case lock(String)
    /// A descriptor, to be read or written. All other work is done by then.
    case descriptor
  }

  /// Waits until the process waits for `wait`. A process that ends in the meantime, because nothing keeps
  /// it waiting, is an error.
  package func waitUntilItWaits(for wait: Wait) throws {
    var before: [ThreadState] = []
    try waitUntil("\(command) waits for \(wait)") {
      guard isRunning else { throw TestSetupError("\(command) did not wait for \(wait)") }
      let threads = threads
      defer { before = threads }
      switch wait {
      case .lock(let path):
        return hasOpen(path) && threads.contains { $0.sleeps(in: "nanosleep") }
      case .descriptor:
        // They are looked at one after the other: one that had slept may have been woken by the next. So it counts
        // if none of them ran between two looks.
        return threads == before && threads.allSatisfy { $0.sleeps(in: "") }
          && threads.contains { $0.sleeps(in: "poll") }
      }
    }
  }

  /// Whether the process has an action of its own for `signal`.
  package func catches(_ signal: Int32) -> Bool { signalIsCaught(identifier, signal) }

  /// The path of the program that the process runs now, if it can be read.
  package var executable: String? { readLink("/proc/\(identifier)/exe") }

  /// The processor time that the process has used so far.
  package var processorSeconds: Double {
    // Behind the name in brackets, user and system time are the 12th and 13th field, in clock ticks.
    guard let stat = try? readFile(procFile: "/proc/\(identifier)/stat"),
      let bracket = stat.lastIndex(of: ")")
    else { return 0 }
    let fields = stat[bracket...].split(separator: " ")
    guard fields.count > 13 else { return 0 }
    return ((Double(fields[12]) ?? 0) + (Double(fields[13]) ?? 0))
      / Double(sysconf(Int32(_SC_CLK_TCK)))
  }

  private func hasOpen(_ path: String) -> Bool {
    directoryEntries("/proc/\(identifier)/fd").contains {
      readLink("/proc/\(identifier)/fd/\($0)") == path
    }
  }

  /// Waits until the process is stopped, as by SIGSTOP. One that ends in the meantime is an error.
  package func waitUntilItIsStopped() throws {
    try waitUntil("\(command) is stopped") {
      guard isRunning else { throw TestSetupError("\(command) has ended before it was stopped") }
      let threads = threads
      return !threads.isEmpty && threads.allSatisfy { $0.state == "T" }
    }
  }

  private struct ThreadState: Equatable {
    var name: String
    /// The kernel's letter.
    var state: Character
    /// The kernel's function that the thread waits in; `0` where the kernel does not say.
    var function: String
    /// How often the thread was taken from a processor.
    var switches: String

    func sleeps(in part: String) -> Bool {
      state == "S" && (part.isEmpty || function == "0" || function.contains(part))
    }
  }

  private var threads: [ThreadState] {
    directoryEntries("/proc/\(identifier)/task").compactMap { thread in
      let directory = "/proc/\(identifier)/task/\(thread)"
      // The letter stands behind the name in brackets, which may have brackets in it.
      guard let function = try? readFile(procFile: "\(directory)/wchan"),
        let stat = try? readFile(procFile: "\(directory)/stat"),
        let status = try? readFile(procFile: "\(directory)/status"),
        let bracket = stat.lastIndex(of: ")")
      else { return nil }
      let state = stat[bracket...].dropFirst(2).first ?? "?"
      let switches = status.split(separator: "\n").filter { $0.contains("ctxt_switches:") }
      return ThreadState(
        name: thread,
        state: state,
        function: function,
        switches: switches.joined(separator: " ")
      )
    }
  }
}

/// Whether a process has an action of its own for `signal`.
package func signalIsCaught(_ process: Int32, _ signal: Int32) -> Bool {
  guard let status = try? readFile(procFile: "/proc/\(process)/status") else { return false }
  for line in status.split(separator: "\n") where line.hasPrefix("SigCgt:") {
    let mask = line.split(whereSeparator: \.isWhitespace).last.flatMap { UInt64($0, radix: 16) }
    return (mask ?? 0) >> UInt64(signal - 1) & 1 == 1
  }
  return false
}
