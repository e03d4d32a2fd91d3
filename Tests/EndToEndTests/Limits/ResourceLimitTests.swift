import Foundation
import Testing
import VMCheckpointTestSupport

/// Where threads, descriptors or memory run out, a command says so in one line and ends: it does not
/// hang, crash, or blame something else.
@Suite(.serialized) struct ResourceLimitTests {
  private let bench: Workbench
  private let ram = incompressibleRAM(1500, seed: 3)

  init() throws {
    bench = try Workbench()
    try bench.save("a", ram)
    _ = try bench.write("next.ram", incompressibleRAM(900, seed: 4))
  }

  private var commands: [[String]] {
    [
      ["list"], ["show", "a"], ["stats"], ["verify"], ["gc"], ["map", "a"], ["optimize"],
      ["restore", "a", "-o", bench.directory.file("out"), "--force"], ["restore", "a", "-o", "-"],
      ["save", bench.directory.file("next.ram"), "--name", "b"], ["tag", "a", "k=v"],
      ["save", "raw:\(bench.directory.file("next.ram"))", "--name", "b2", "--compression", "high"],
      ["delete", "b"],
    ]
  }

  /// Runs all commands. Each must succeed, or end with 71 and one line that has one of `reasons`.
  private func expectOrderly(
    _ wrapper: [String] = [],
    environment: [String: String] = [:],
    reasons: [String],
    _ when: String
  ) throws {
    for command in commands {
      let outcome = try run(
        wrapper + bench.tool.commandLine(command),
        environment: environment
      )
      if outcome.succeeded { continue }
      // What was to be deleted could not be saved.
      if command.first == "delete", outcome.ending == .exit(66) { continue }
      #expect(outcome.ending == .exit(71), "\(when): \(outcome)")
      let lines = outcome.standardError.split(separator: "\n")
      #expect(lines.count == 1, "\(when): \(outcome)")
      #expect(reasons.contains { outcome.standardError.contains($0) }, "\(when): \(outcome)")
    }
    for name in ["b", "b2"] { _ = try bench.tool.run("delete", name) }
  }

  private func expectSoundStore() throws {
    #expect(try bench.tool.verify().succeeded)
    #expect(try bench.restore("a") == ram)
    #expect(bench.leftovers.isEmpty)
  }

  @Test(.slow) func withoutThreadsNothingHangs() throws {
    let shim = try FaultShim()
    for number in 1...5 {
      for once in [false, true] {
        try expectOrderly(
          environment: shim.environment("pthread_create", number, once: once),
          reasons: ["cannot start a thread: Resource temporarily unavailable; raise the limit"],
          "thread \(number)\(once ? ", once" : "")"
        )
      }
    }
    try expectSoundStore()
  }

  /// The limit of a user who is not root; root has none.
  @Test(.enabled(if: getuid() == 0, "needs root"))
  func aUserWithoutProcessesLeftIsTold() throws {
    chmod(bench.directory.path, 0o755)
    chmod(bench.storePath, 0o644)
    let outcome = try run(
      [
        "/usr/bin/env", "setpriv", "--reuid", "65534", "--clear-groups", "/bin/sh", "-c",
        "ulimit -u 1 2>/dev/null || ulimit -p 1; exec \"$@\"", "sh",
      ] + bench.tool.commandLine(["list"])
    )
    #expect(outcome.ending == .exit(71), "\(outcome)")
    #expect(outcome.standardError.hasPrefix("vmckpt: cannot start a thread: "), "\(outcome)")
  }

  @Test(.slow) func fewDescriptorsAreCalledThat() throws {
    for count in 4...24 {
      try expectOrderly(
        ["/bin/sh", "-c", "ulimit -n \(count); exec \"$@\"", "sh"],
        reasons: ["the limit on open files is too small", "Too many open files"],
        "\(count) descriptors"
      )
    }
    let outcome = try run(
      ["/bin/sh", "-c", "ulimit -n 6; exec \"$@\"", "sh"]
        + bench.tool.commandLine(["list", "--json"])
    )
    #expect(outcome.ending == .exit(71), "\(outcome)")
    #expect(outcome.standardError.contains(#""code":"out-of-resources""#), "\(outcome)")
    try expectSoundStore()
  }

  /// The buffers that a command uses for pages are most of its memory.
  @Test(.slow) func failingBuffersAreToldAndNoCrash() throws {
    let shim = try FaultShim()
    for number in [1, 2, 3, 5, 9, 17, 33, 65, 129, 200, 257] {
      try expectOrderly(
        environment: shim.environment("posix_memalign", number, once: false),
        reasons: ["out of memory"],
        "large allocation \(number)"
      )
    }
    try expectSoundStore()
  }

  @Test(.slow) func aSmallAddressSpaceIsTold() throws {
    for kibibytes in [220_000, 260_000, 300_000, 400_000] {
      for command in [
        ["save", bench.directory.file("next.ram"), "--name", "b"],
        ["restore", "a", "-o", bench.directory.file("out"), "--force"], ["verify"],
      ] {
        let outcome = try run(
          ["/bin/sh", "-c", "ulimit -v \(kibibytes); exec \"$@\"", "sh"]
            + bench.tool.commandLine(command)
        )
        #expect([.exit(0), .exit(71)].contains(outcome.ending), "\(kibibytes): \(outcome)")
      }
      _ = try bench.tool.run("delete", "b")
    }
    try expectSoundStore()
  }
}
