import Glibc
import Testing
import VMCheckpointTestSupport

/// A guest's RAM is secret, and a process that is killed over it prints and leaves none of it.
@Suite struct CrashSecrecyTests {
  /// What makes Swift's runtime print registers and memory when a program crashes.
  private static let wantsBacktraces = [
    "SWIFT_BACKTRACE": "enable=yes,sanitize=no,registers=all,images=none,interactive=no"
  ]
  private let bench: Workbench

  init() throws { bench = try Workbench() }

  /// Calls `body` with a save that has read RAM and waits for more.
  private func whileSaving(
    _ arguments: [String],
    _ body: (ChildProcess) throws -> Void
  ) throws -> ProcessOutcome {
    try bench.save("base", sampleRAM(3))
    let pipe = try ChildPipe()
    let child = try ChildProcess(
      arguments + bench.tool.commandLine(["save", "-", "--name", "x"]),
      environment: Self.wantsBacktraces,
      input: .descriptor(pipe.reader)
    )
    try pipe.write(sampleRAM(300, seed: 2))
    try waitUntil("the save has begun") {
      try bench.sql.integer("SELECT count(*) FROM snapshot WHERE state = 'writing'") == 1
    }
    try body(child)
    return try child.wait()
  }

  @Test(.slow, arguments: [SIGQUIT, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP])
  func aCrashPrintsNoMemory(signal: Int32) throws {
    let outcome = try whileSaving([]) { $0.send(signal) }
    #expect(outcome.ending == .signal(signal), "\(outcome)")
    #expect(outcome.standardError == "")
    #expect(outcome.text == "")
    try expectSound(bench, [("base", sampleRAM(3))], "after a crash")
  }

  /// Whatever limit the user's shell allows.
  @Test func aCrashLeavesNoCore() throws {
    let shell = ["/usr/bin/env", "bash", "-c", #"ulimit -S -c "$(ulimit -H -c)"; exec "$@""#, "-"]
    let outcome = try whileSaving(shell) { child in
      let limits = try readFile(procFile: "/proc/\(child.identifier)/limits")
      let fields = limits.split(separator: "\n").first { $0.hasPrefix("Max core file size") }?
        .split(separator: " ")
      let soft = try #require(fields?.dropFirst(4).first.flatMap { Int($0) }, "\(limits)")
      // One byte: no file, and no program that the kernel would pipe a core to.
      #expect(soft <= 1)
      child.send(SIGSEGV)
    }
    #expect(outcome.ending == .signal(SIGSEGV), "\(outcome)")
  }

  /// A shell lets what runs in its background ignore the key for SIGQUIT.
  @Test func aSignalThatTheParentIgnoresStaysIgnored() throws {
    try bench.save("base", sampleRAM(3))
    let pipe = try ChildPipe()
    let child = try ChildProcess(
      ["/usr/bin/env", "bash", "-c", #"trap '' QUIT; exec "$@""#, "-"]
        + bench.tool.commandLine(["save", "-", "--name", "x"]),
      input: .descriptor(pipe.reader)
    )
    try pipe.write(sampleRAM(300, seed: 2))
    try waitUntil("the save has begun") {
      try bench.sql.integer("SELECT count(*) FROM snapshot WHERE state = 'writing'") == 1
    }
    child.send(SIGQUIT)
    pipe.closeWriter()
    let outcome = try child.wait()
    #expect(outcome.succeeded, "\(outcome)")
  }
}
