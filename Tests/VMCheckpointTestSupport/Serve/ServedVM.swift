import CLinux
import Glibc
import Synchronization
import VMCheckpoint

/// RAM as a VM has it whose pages a server puts in place, in the test's own process.
///
/// Threads that touch a page wait for the server. When that never answers they wait for ever, so that tests bound
/// each wait.
package final class ServedVM: Sendable {
  package let pageCount: Int
  // Threads only read it, as a VM's do, or drop pages.
  private nonisolated(unsafe) let memory: UnsafeMutableRawBufferPointer
  private let served: ServedMemory
  /// Copies of pages go through this file: a page that is poisoned is an error there, and no signal.
  private let scratch: Int32

  /// Hands memory over to the server at `socketPath`, once there is one.
  ///
  /// - Parameter parts: The place of each part in the RAM file, and its pages; the memory is one range.
  package init(
    parts: [(fileOffset: UInt64, pageCount: Int)],
    socketPath: String,
    isShared: Bool = false
  ) throws {
    pageCount = parts.reduce(0) { $0 + $1.pageCount }
    scratch = clinux_memory_file("vmckpt-test")
    let byteCount = pageCount * 4096
    let flags = isShared ? MAP_SHARED : MAP_PRIVATE
    guard
      let address = mmap(nil, byteCount, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0),
      address != MAP_FAILED
    else { throw TestSetupError("cannot map memory") }
    memory = UnsafeMutableRawBufferPointer(start: address, count: byteCount)
    var start = 0
    let memory = memory
    let described = parts.map { part in
      defer { start += part.pageCount * 4096 }
      return ServedMemory.Part(
        memory: UnsafeMutableRawBufferPointer(
          rebasing: memory[start..<(start + part.pageCount * 4096)]
        ),
        fileOffset: part.fileOffset
      )
    }
    var made: ServedMemory?
    try waitUntil("somebody serves at \(socketPath)") {
      do throws(VMCheckpointError) {
        made = try ServedMemory(described, socketPath: socketPath)
        return true
      } catch {
        guard [.notFound, .unavailable].contains(error.code) else { throw error }
        return false
      }
    }
    served = made!
  }

  /// One part from offset 0 on.
  package convenience init(pageCount: Int, socketPath: String, isShared: Bool = false) throws {
    try self.init(parts: [(0, pageCount)], socketPath: socketPath, isShared: isShared)
  }

  deinit {
    munmap(memory.baseAddress, memory.count)
    close(scratch)
  }

  /// Whether a page has these bytes; `nil` when an access to it is an error.
  package func page(_ index: Int, equals expected: ArraySlice<UInt8>) -> Bool? {
    // Another thread's copy must not come in between.
    let file = clinux_memory_file("vmckpt-test-page")
    defer { close(file) }
    guard pwrite(file, memory.baseAddress! + index * 4096, 4096, 0) == 4096 else { return nil }
    var copy = [UInt8](repeating: 0, count: 4096)
    guard pread(file, &copy, 4096, 0) == 4096 else { return nil }
    return copy[...] == expected
  }

  /// The pages of `order` that do not have their bytes in `ram`, or cannot be read.
  package func mismatches(_ ram: [UInt8], _ order: some Sequence<Int>) -> [Int] {
    order.filter { page($0, equals: ram[($0 * 4096)..<($0 * 4096 + 4096)]) != true }
  }

  /// All pages that do not have their bytes in `ram`, read by `threadCount` threads in random order.
  ///
  /// - Throws: When that takes too long.
  package func mismatches(_ ram: [UInt8], threadCount: Int, seed: UInt64) throws -> [Int] {
    let found = Mutex<[Int]>([])
    let running = Mutex(threadCount)
    for index in 0..<threadCount {
      // The memory outlives the threads that hang in it.
      let thread = ThreadResult { [self] in
        var generator = TestGenerator(seed: seed + UInt64(index))
        let wrong = mismatches(ram, Array(0..<pageCount).shuffled(using: &generator))
        found.withLock { $0 += wrong }
        running.withLock { $0 -= 1 }
      }
      _ = thread
    }
    try waitUntil("all pages are there") { running.withLock { $0 == 0 } }
    return Array(Set(found.withLock { $0 })).sorted()
  }

  /// How many pages are in place, found without touching any.
  package var residentPageCount: Int {
    var states = [UInt8](repeating: 0, count: pageCount)
    guard mincore(memory.baseAddress, memory.count, &states) == 0 else { return 0 }
    return states.count { $0 & 1 == 1 }
  }

  /// Drops pages, as a balloon does.
  package func drop(_ pages: Range<Int>) throws {
    let result = madvise(
      memory.baseAddress! + pages.lowerBound * 4096,
      pages.count * 4096,
      CInt(MADV_DONTNEED)
    )
    guard result == 0 else { throw TestSetupError("cannot drop pages") }
  }
}

/// `vmckpt serve`, with the processes that go on in its place.
package final class ServeTool {
  package let socketPath: String
  package let process: ChildProcess
  private let seen = SeenProcesses()

  /// Starts `vmckpt serve REF --uffd SOCKET` in a directory of the bench.
  ///
  /// - Parameter recordingSeconds: For `--record-working-set`, unless `options` have it; `nil`: without the option.
  package init(
    _ bench: Workbench,
    _ reference: String,
    _ options: String...,
    recordingSeconds: Double? = 0,
    asUser prefix: ([String]) -> [String] = { $0 }
  ) throws {
    socketPath = bench.directory.file("pages.sock")
    var arguments = ["serve", reference, "--uffd", socketPath] + options
    if let recordingSeconds, !options.contains("--record-working-set") {
      arguments += ["--record-working-set", "\(recordingSeconds)"]
    }
    process = try ChildProcess(prefix(bench.tool.commandLine(arguments)))
  }

  deinit {
    for pid in Self.processes(socketPath, areKeepers: true) { kill(pid, SIGKILL) }
    for pid in Self.processes(socketPath, areKeepers: false) { kill(pid, SIGKILL) }
  }

  /// The processes that serve now, or keep.
  package func processes(areKeepers: Bool) -> [Int32] {
    let found = Self.processes(socketPath, areKeepers: areKeepers)
    seen.note(found)
    return found
  }

  /// Whether a process has all of a VM that another one would need: its connection, and which pages are taken.
  package func hasVM(_ pid: Int32) -> Bool {
    OtherProcesses.openFiles(pid).contains { $0.hasPrefix("/memfd:vmckpt-served-pages") }
  }

  /// Waits until no process serves or keeps any more, and what those had open is closed: the socket, and the lock of
  /// the lease.
  package func waitUntilGone(_ what: String = "no process is left") throws {
    try seen.waitUntilGone(what) { processes(areKeepers: true) + processes(areKeepers: false) }
  }

  /// Stops the server, so that it starts no other keeper, and kills it together with that; waits until both are gone.
  package func killWithKeeper() throws {
    process.send(SIGSTOP)
    try waitUntil("the server is stopped") { OtherProcesses.isStopped(process.identifier) }
    for keeper in processes(areKeepers: true) { kill(keeper, SIGKILL) }
    process.send(SIGKILL)
    _ = try process.wait()
    try waitUntilGone()
  }

  private static func processes(_ socketPath: String, areKeepers: Bool) -> [Int32] {
    directoryEntries("/proc").compactMap { Int32($0) }.filter { pid in
      guard let line = try? readFile(procFile: "/proc/\(pid)/cmdline") else { return false }
      let arguments = line.split(separator: "\0").map(String.init)
      guard arguments.contains(socketPath), arguments.contains("serve") else { return false }
      // Not what has ended and waits for its parent.
      return arguments.contains("__serve-keeper") == areKeepers && arguments.first != "setpriv"
    }
  }

  /// Asks the process to end, and returns how it did.
  package func end() throws -> ProcessOutcome {
    process.send(SIGTERM)
    return try process.wait()
  }
}
