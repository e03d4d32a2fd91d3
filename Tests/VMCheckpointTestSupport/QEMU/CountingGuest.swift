import Foundation

/// A real guest in QEMU (without KVM) that counts aloud, and knows a nonce that is only in its RAM.
/// QEMU is killed when the object goes away.
package final class CountingGuest {
  /// What the guest's RAM is to QEMU.
  package enum RAM {
    case anonymous
    /// A file; `isShared`: writes go to it.
    case file(String, isShared: Bool)
    case memfd
  }

  /// A line that the guest printed.
  package struct Count: Hashable {
    package var number: Int
    package var nonce: String
  }

  package let process: ChildProcess
  package let consolePath: String
  package let monitorPath: String

  /// Starts QEMU: the guest boots, or goes on from what `incoming` gives.
  package init(
    _ name: String,
    in directory: TemporaryDirectory,
    qemu: QEMURelease = .system,
    memory: String = "128M",
    cpuCount: Int = 1,
    machine: String = "q35",
    ram: RAM = .anonymous,
    devices: [String] = [],
    initramfs: String? = nil,
    incoming: String? = nil
  ) throws {
    let place = try directory.subdirectory(name)
    consolePath = "\(place)/console"
    monitorPath = "\(place)/qmp"
    process = try ChildProcess(
      ["/usr/bin/env", "-C", place]
        + Self.commandLine(
          program: qemu.program(),
          memory: memory,
          cpuCount: cpuCount,
          machine: machine,
          ram: ram,
          initramfs: try initramfs ?? Self.initramfs.get(),
          incoming: incoming
        ) + devices
    )
  }

  /// Starts what `vmckpt restore --format qemu` has made, with console and monitors in a directory of
  /// its own.
  package init(
    script: String,
    arguments: [String] = [],
    workingDirectory: String,
    environment: [String: String] = [:]
  ) throws {
    consolePath = "\(workingDirectory)/console"
    monitorPath = "\(workingDirectory)/qmp"
    process = try ChildProcess(
      [script] + arguments,
      environment: ["VMCKPT_WORKING_DIRECTORY": workingDirectory].merging(environment) { $1 }
    )
  }

  /// Console and monitors have relative paths, so that clones have their own. On a busy machine the timer
  /// of a guest without KVM may fail the test that Linux does of it (`no_timer_check`).
  private static func commandLine(
    program: String,
    memory: String,
    cpuCount: Int,
    machine: String,
    ram: RAM,
    initramfs: String,
    incoming: String?
  ) throws -> [String] {
    var machine = machine
    var arguments = [
      program, "-nodefaults", "-no-user-config", "-no-reboot", "-display",
      "none", "-accel", "tcg", "-cpu", "max", "-smp", "\(cpuCount)", "-m", memory, "-vga", "std",
      "-kernel", try kernel(), "-initrd", initramfs, "-append",
      "console=ttyS0 quiet panic=-1 no_timer_check interval=0.2", "-serial", "file:console", "-qmp",
      "unix:qmp,server=on,wait=off", "-qmp",
      "unix:qmp2,server=on,wait=off",
    ]
    let backend: String? =
      switch ram {
      case .anonymous: nil
      case .file(let path, let isShared):
        "memory-backend-file,id=pc.ram,size=\(memory),mem-path=\(path),"
          + "share=\(isShared ? "on" : "off")"
      case .memfd: "memory-backend-memfd,id=pc.ram,size=\(memory),share=on"
      }
    if let backend {
      arguments += ["-object", backend]
      machine += ",memory-backend=pc.ram"
    }
    arguments += ["-machine", machine]
    if let incoming { arguments += ["-incoming", incoming] }
    return arguments
  }

  /// Debian's kernel, which Scripts/guest has downloaded.
  package static func kernel() throws -> String {
    let cache = "\(environmentValue("VMCKPT_GUEST_DIR") ?? "")/cache"
    guard let name = directoryEntries(cache).first(where: { $0.hasPrefix("vmlinuz-") }) else {
      throw TestSetupError("VMCKPT_GUEST_DIR has no kernel; run the tests with Scripts/test")
    }
    return "\(cache)/\(name)"
  }

  private static let scratch = Result { try TemporaryDirectory() }

  /// Made once for all tests of the process.
  package static let initramfs = Result {
    let path = try scratch.get().file("initramfs")
    try makeInitramfs(at: path)
    return path
  }

  /// Makes an initramfs; with `start`, a file that is its first process in place of the counting one.
  package static func makeInitramfs(at path: String, start: String? = nil) throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let outcome = try VMCheckpointTestSupport.run(
      [root.appending(path: "Scripts/counting-guest").path, path] + (start.map { [$0] } ?? [])
    )
    guard outcome.succeeded else { throw TestSetupError("\(outcome)") }
  }

  /// A connection to QEMU's second monitor, so that the first is free for `vmckpt`.
  package func monitor() throws -> QMPConnection { try QMPConnection(path: monitorPath + "2") }

  /// The counts in the order of printing.
  package func counts() -> [Count] { Self.counts(console: consolePath) }

  /// What a guest has printed into a file, in the order of printing.
  package static func counts(console path: String) -> [Count] {
    guard let bytes = try? readFile(path) else { return [] }
    return counts(consoleText: String(decoding: bytes, as: UTF8.self))
  }

  /// The counts in what a console has shown. A guest that was captured in the middle of a line leaves the
  /// line's start on one console and its end on the next: the end counts as the number, if the line after
  /// it tells that it is one.
  package static func counts(consoleText: String) -> [Count] {
    // The last line may not be complete yet.
    let lines = consoleText.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
      .dropLast().map { String($0.last == "\r" ? $0.dropLast() : $0) }
    var counts = lines.compactMap(Self.count(line:))
    if lines.count > 1, let first = counts.first, first.number > 0,
      Self.count(line: lines[0]) == nil,
      Self.count(line: lines[1]) == first,
      "COUNT \(first.number - 1) \(first.nonce)".hasSuffix(lines[0])
    {
      counts.insert(Count(number: first.number - 1, nonce: first.nonce), at: 0)
    }
    return counts
  }

  private static func count(line: some StringProtocol) -> Count? {
    let words = line.split(separator: " ")
    guard words.count == 3, words[0] == "COUNT", words[2].count == 32, let number = Int(words[1])
    else { return nil }
    return Count(number: number, nonce: String(words[2]))
  }

  /// Waits until the guest has printed `count` numbers; returns all.
  package func waitForCounts(_ count: Int, timeoutSeconds: Double = patienceSeconds) throws
    -> [Count]
  {
    let deadline = monotonicSeconds() + timeoutSeconds
    while true {
      let printed = counts()
      if printed.count >= count { return printed }
      guard process.isRunning, monotonicSeconds() < deadline else {
        let console = (try? readFile(consolePath)).map { String(decoding: $0, as: UTF8.self) } ?? ""
        throw TestSetupError(
          "the guest printed \(printed.count) of \(count) numbers; QEMU says: "
            + process.standardErrorSoFar + "; the console ends: \(console.suffix(300))"
        )
      }
      usleep(50_000)
    }
  }

  /// Waits for `count` more numbers than there are now.
  package func waitForMore(_ count: Int, timeoutSeconds: Double = patienceSeconds) throws -> [Count]
  {
    try waitForCounts(counts().count + count, timeoutSeconds: timeoutSeconds)
  }

  /// Ends QEMU without warning.
  package func kill() throws {
    process.send(9)
    _ = try process.wait(timeoutSeconds: 20)
  }
}

extension [CountingGuest.Count] {
  /// Whether these numbers follow `earlier` without a gap and with the same nonce. One number may
  /// have been on its way to the serial port when the guest was captured.
  package func goOn(from earlier: [CountingGuest.Count]) -> Bool {
    guard let last = earlier.last, let first else { return false }
    return ((last.number)...(last.number + 1)).contains(first.number)
      && zip(self, dropFirst()).allSatisfy { $1.number == $0.number + 1 }
      && allSatisfy { $0.nonce == last.nonce }
  }
}
