import Glibc
import Synchronization

/// How a process ended.
package enum ProcessEnding: Hashable, Sendable, CustomStringConvertible {
  case exit(Int32)
  case signal(Int32)

  package var description: String {
    switch self {
    case .exit(let code): "exit \(code)"
    case .signal(let number): "signal \(number)"
    }
  }
}

/// What a process did.
package struct ProcessOutcome: Sendable, CustomStringConvertible {
  package var command: String
  package var ending: ProcessEnding
  package var standardOutput: [UInt8]
  package var standardError: String
  package var maximumResidentByteCount: Int
  /// What it has had written to disks, as the kernel counts it: dirtied memory of files, again after
  /// each sync. 0 on file systems without a disk.
  package var writtenByteCount: Int
  package var durationSeconds: Double
  /// The processor time that it used. What else the machine does hardly adds to it.
  package var processorSeconds: Double

  package var succeeded: Bool { ending == .exit(0) }

  /// Standard output as text.
  package var text: String { String(decoding: standardOutput, as: UTF8.self) }

  package var description: String {
    "\(command)\n=> \(ending), stderr: \(standardError), stdout: \(text.prefix(2000))"
  }
}

/// A running program, with its output in files so that it never waits for a reader.
///
/// It starts with default signal actions and nothing blocked, whatever the test process has.
package final class ChildProcess {
  /// Where standard input comes from.
  package enum Input {
    case null
    case file(String)
    case descriptor(Int32)
  }

  package let identifier: Int32
  let command: String
  private let scratch: TemporaryDirectory
  private let start: Double
  private let capturesOutput: Bool
  private var status: Int32 = 0
  private var usage = rusage()
  fileprivate var peakResidentByteCount = 0
  private var hasEnded = false

  /// Starts `arguments[0]`, an absolute path.
  ///
  /// - Parameter outputDescriptor: Where standard output goes; `nil`: captured.
  package init(
    _ arguments: [String],
    environment: [String: String] = [:],
    input: Input = .null,
    outputDescriptor: Int32? = nil
  ) throws {
    command = arguments.joined(separator: " ")
    scratch = try TemporaryDirectory()
    capturesOutput = outputDescriptor == nil
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    switch input {
    case .null: posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    case .file(let path): posix_spawn_file_actions_addopen(&actions, 0, path, O_RDONLY, 0)
    case .descriptor(let descriptor): posix_spawn_file_actions_adddup2(&actions, descriptor, 0)
    }
    let flags = O_WRONLY | O_CREAT | O_TRUNC
    if let outputDescriptor {
      posix_spawn_file_actions_adddup2(&actions, outputDescriptor, 1)
    } else {
      posix_spawn_file_actions_addopen(&actions, 1, scratch.file("stdout"), flags, 0o600)
    }
    posix_spawn_file_actions_addopen(&actions, 2, scratch.file("stderr"), flags, 0o600)

    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var signals = sigset_t()
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    sigfillset(&signals)
    posix_spawnattr_setsigdefault(&attributes, &signals)
    posix_spawnattr_setflags(
      &attributes,
      Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)
    )

    // A crash is told by its signal; Swift's backtrace takes a second and kilobytes.
    var inherited = [
      "SWIFT_BACKTRACE": "enable=no", "XDG_STATE_HOME": Self.stateHome,
      "XDG_CACHE_HOME": "\(Self.stateHome)/cache",
      // Tests know the messages of some programs.
      "LC_MESSAGES": "C",
    ]
    for name in ["PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH"] {
      inherited[name] = environmentValue(name)
    }
    let variables = inherited.merging(environment) { $1 }.map { "\($0)=\($1)" }
    let argv = arguments.map { strdup($0) } + [nil]
    let envp = variables.map { strdup($0) } + [nil]
    defer { (argv + envp).forEach { free($0) } }
    var pid = pid_t()
    start = monotonicSeconds()
    var result = posix_spawn(&pid, arguments[0], &actions, &attributes, argv, envp)
    // A program that a test has just written is busy for as long as a child that another test was
    // starting meanwhile has its descriptor: until that child's own exec.
    while result == ETXTBSY, monotonicSeconds() < start + 60 {
      usleep(5000)
      result = posix_spawn(&pid, arguments[0], &actions, &attributes, argv, envp)
    }
    guard result == 0 else {
      throw TestSetupError("cannot start \(command): \(String(cString: strerror(result)))")
    }
    identifier = pid
  }

  /// Where children keep what is their user's, so that no test makes files in the home of who runs it.
  private static let stateHome: String = {
    let directory = try? TemporaryDirectory()
    stateDirectory.withLock { $0 = directory }
    atexit { ChildProcess.stateDirectory.withLock { $0 = nil } }
    return directory?.path ?? "/nonexistent"
  }()
  private static let stateDirectory = Mutex<TemporaryDirectory?>(nil)

  deinit {
    guard !hasEnded else { return }
    Glibc.kill(identifier, SIGKILL)
    waitpid(identifier, &status, 0)
  }

  /// Sends a signal, unless the process has ended.
  package func send(_ signal: Int32) {
    if isRunning { Glibc.kill(identifier, signal) }
  }

  /// Whether the process has not ended yet.
  package var isRunning: Bool {
    if !hasEnded, wait4(identifier, &status, WNOHANG, &usage) == identifier { hasEnded = true }
    return !hasEnded
  }

  /// What the process has written to standard error so far.
  package var standardErrorSoFar: String {
    (try? readFile(scratch.file("stderr"))).map { String(decoding: $0, as: UTF8.self) } ?? ""
  }

  /// Waits for the end.
  ///
  /// - Throws: ``TestSetupError`` when it takes longer than `timeoutSeconds` from now on; the process is killed then.
  package func wait(timeoutSeconds: Double = patienceSeconds) throws -> ProcessOutcome {
    let deadline = monotonicSeconds() + timeoutSeconds
    var polls = 0
    while isRunning {
      if polls % 8 == 0 { notePeakMemory() }
      polls += 1
      if monotonicSeconds() > deadline {
        Glibc.kill(identifier, SIGKILL)
        wait4(identifier, &status, 0, &usage)
        hasEnded = true
        // A loop over many cases is not to wait for each.
        throw TestSetupError(
          "\(command) had not ended after \(timeoutSeconds) s: \(standardErrorSoFar.suffix(2000))"
        )
      } else {
        usleep(500)
      }
    }
    let signal = status & 0x7f
    return ProcessOutcome(
      command: command,
      ending: signal == 0 ? .exit((status >> 8) & 0xff) : .signal(signal),
      standardOutput: capturesOutput ? try readFile(scratch.file("stdout")) : [],
      standardError: standardErrorSoFar,
      maximumResidentByteCount: peakResidentByteCount,
      writtenByteCount: usage.ru_oublock * 512,
      durationSeconds: monotonicSeconds() - start,
      processorSeconds: usage.ru_utime.seconds + usage.ru_stime.seconds
    )
  }
}

extension ChildProcess {
  private static let ownExecutable = readLink("/proc/self/exe")

  /// The kernel's own high-water mark. (That of getrusage begins with the test process's: a spawned
  /// child shares its memory until it executes, which may be after `posix_spawn` has returned.
  /// Once the link names another executable, memory read later is the program's own.)
  private func notePeakMemory() {
    guard let executable = readLink("/proc/\(identifier)/exe"),
      executable != Self.ownExecutable,
      let status = try? readFile(procFile: "/proc/\(identifier)/status")
    else { return }
    for line in status.split(separator: "\n") where line.hasPrefix("VmHWM:") {
      let kibibytes = line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap {
        Int($0)
      }
      peakResidentByteCount = max(peakResidentByteCount, (kibibytes ?? 0) << 10)
    }
  }
}

extension timeval {
  fileprivate var seconds: Double { Double(tv_sec) + Double(tv_usec) / 1e6 }
}

/// How long tests wait for what a busy machine, or a disk that stalls, may delay. Whoever waits for less has to say what
/// a longer wait would hide.
package let patienceSeconds = 300.0

/// Runs a program to its end.
package func run(
  _ arguments: [String],
  environment: [String: String] = [:],
  input: ChildProcess.Input = .null,
  timeoutSeconds: Double = patienceSeconds
) throws -> ProcessOutcome {
  try ChildProcess(arguments, environment: environment, input: input)
    .wait(timeoutSeconds: timeoutSeconds)
}

/// Seconds on a clock that never jumps.
package func monotonicSeconds() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}
