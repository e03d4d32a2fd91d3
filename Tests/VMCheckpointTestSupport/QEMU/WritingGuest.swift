import CLinux
import Dispatch
import Foundation
import Glibc
import Synchronization

/// A guest of a ``FakeQEMU`` whose RAM is a shared file, and that writes to it without pause while it runs.
///
/// It is stopped when a migration begins, and goes on at `cont`. What it writes at each step is determined by the
/// step's number, and page 0 has the number of the last one: so whoever has an image of its RAM knows whether it
/// is of one instant, whatever the instant.
///
///     page 0              the number of steps
///     hot pages           step n writes the page 1 + n % hot, or makes a hole in its place
///     still pages         never change
///     the rest            a hole
package final class WritingGuest: @unchecked Sendable {
  /// What happens when a command comes, before it is answered; on the thread that answers.
  package typealias Hook = @Sendable (String, WritingGuest) -> Void

  private static let pageByteCount = 4096
  private static let wordCount = pageByteCount / 8

  /// Where its RAM is: that decides how a save reads it.
  package enum Place: String, CaseIterable, Sendable {
    /// On a file system that is not in memory.
    case disk
    case memory
  }

  package let ramPath: String
  package let pageCount: Int
  private let hotPageCount: Int
  private let stillPageCount: Int
  private let descriptor: Int32
  private let memory: UnsafeMutableRawPointer
  private var byteCount: Int { pageCount * Self.pageByteCount }
  private struct State {
    var isStopped = false
    var isOver = false
    var step: UInt64 = 0
    var stopCount = 0
  }

  private let state = Mutex(State())
  private let ended = DispatchSemaphore(value: 0)
  package private(set) var qemu: FakeQEMU!

  /// - Parameters:
  ///   - hotPageCount: Pages that it writes to, one after the other.
  ///   - pauseMicroseconds: Between two steps; 0: none. As long as one look takes, all hot pages may change.
  ///   - hook: Is called with each command.
  package init(
    in directory: TemporaryDirectory,
    ram place: Place = .memory,
    hotPageCount: Int = 512,
    stillPageCount: Int = 4096,
    holePageCount: Int = 4096,
    pauseMicroseconds: UInt32 = 20,
    hook: @escaping Hook = { _, _ in },
    answer: @escaping FakeQEMU.Answering = { _, _ in nil }
  ) throws {
    // Of a save that is killed while QEMU writes to its pipe.
    signal(SIGPIPE, SIG_IGN)
    self.hotPageCount = hotPageCount
    self.stillPageCount = stillPageCount
    pageCount = 1 + hotPageCount + stillPageCount + holePageCount
    ramPath =
      place == .disk ? directory.file("guest.ram") : "/dev/shm/vmckpt-test-\(UUID().uuidString)"
    descriptor = open(ramPath, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    let size = pageCount * Self.pageByteCount
    guard descriptor >= 0, ftruncate(descriptor, off_t(size)) == 0,
      let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0),
      memory != MAP_FAILED
    else { throw TestSetupError("cannot make RAM in a file") }
    self.memory = memory
    for index in 0..<stillPageCount {
      Self.fill(memory + (1 + hotPageCount + index) * Self.pageByteCount, UInt64(index) << 32 | 7)
    }
    qemu = try FakeQEMU(
      in: directory,
      stream: Self.stream(pageCount: pageCount)
    ) { [weak self] name, arguments in
      guard let guest = self else { return nil }
      hook(name, guest)
      if name == "migrate" || name == "stop" { guest.stop() }
      if name == "cont" { guest.goOn() }
      return answer(name, arguments) ?? guest.answer(name, arguments)
    }
    let thread = Thread { [self] in
      while step() {
        if pauseMicroseconds > 0 { usleep(pauseMicroseconds) } else { sched_yield() }
      }
      ended.signal()
    }
    thread.start()
  }

  /// Ends the guest.
  package func end() {
    state.withLock { $0.isOver = true }
    ended.wait()
    munmap(memory, byteCount)
    close(descriptor)
    unlink(ramPath)
  }

  package var isRunning: Bool { state.withLock { !$0.isStopped } }
  package var stopCount: Int { state.withLock { $0.stopCount } }
  package var stepCount: UInt64 { state.withLock { $0.step } }

  /// Makes `count` steps at once.
  package func hurry(_ count: Int) { for _ in 0..<count { _ = step() } }

  /// Cuts off the last MiB of its RAM and puts it back, again and again until `isOver` says so. Only while it is
  /// stopped, and where its still pages come last: a write of its own would end this process.
  package func cutAgainAndAgain(until isOver: () -> Bool) {
    let start = byteCount - 1 << 20
    let bytes = [UInt8](UnsafeRawBufferPointer(start: memory + start, count: 1 << 20))
    while !isOver() {
      ftruncate(descriptor, off_t(start))
      ftruncate(descriptor, off_t(byteCount))
      pwrite(descriptor, bytes, bytes.count, off_t(start))
    }
  }

  private func stop() {
    state.withLock { state in
      state.stopCount += state.isStopped ? 0 : 1
      state.isStopped = true
    }
  }

  private func goOn() { state.withLock { $0.isStopped = false } }

  // MARK: RAM

  /// - Returns: Whether the guest is not over.
  private func step() -> Bool {
    state.withLock { state -> Bool in
      guard !state.isOver else { return false }
      guard !state.isStopped else { return true }
      state.step += 1
      let page = memory + hotPage(state.step) * Self.pageByteCount
      if isHole(state.step) {
        _ = clinux_punch_hole(descriptor, UInt64(page - memory), UInt64(Self.pageByteCount))
      } else {
        Self.fill(page, state.step)
      }
      memory.storeBytes(of: state.step, as: UInt64.self)
      return true
    }
  }

  private func hotPage(_ step: UInt64) -> Int { 1 + Int(step % UInt64(hotPageCount)) }
  private func isHole(_ step: UInt64) -> Bool { step % 7 == 3 }

  private static func fill(_ page: UnsafeMutableRawPointer, _ number: UInt64) {
    let words = page.assumingMemoryBound(to: UInt64.self)
    for index in 0..<wordCount { words[index] = word(number, index) }
  }

  private static func word(_ number: UInt64, _ index: Int) -> UInt64 {
    // It does not compress: SplitMix64.
    var value = (number &* 512 &+ UInt64(index) &+ 1) &* 0x9e37_79b9_7f4a_7c15
    value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
    return value ^ value >> 27
  }

  /// What is wrong with an image of RAM; empty: it is RAM as it was at one instant, after `steps` steps.
  package func problems(of ram: [UInt8], steps: ClosedRange<UInt64>) -> [String] {
    guard ram.count == byteCount else { return ["\(ram.count) bytes"] }
    return ram.withUnsafeBytes { bytes in
      let last = bytes.loadUnaligned(as: UInt64.self)
      var problems = steps.contains(last) ? [] : ["step \(last) is not in \(steps)"]
      var expected: [Int: UInt64] = [:]
      let first = last > UInt64(hotPageCount) ? last - UInt64(hotPageCount) : 0
      for step in (first + 1)..<(last + 1) where !isHole(step) { expected[hotPage(step)] = step }
      for index in 0..<stillPageCount {
        expected[1 + hotPageCount + index] = UInt64(index) << 32 | 7
      }
      for page in 1..<pageCount {
        let words = UnsafeRawBufferPointer(
          rebasing: bytes[(page * Self.pageByteCount)..<((page + 1) * Self.pageByteCount)]
        )
        let number = expected[page]
        let isRight = (0..<Self.wordCount).allSatisfy { index in
          words.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)
            == (number.map { Self.word($0, index) } ?? 0)
        }
        if !isRight {
          problems.append("page \(page) is not that of step \(number ?? 0) of \(last)")
        }
        if problems.count > 5 { break }
      }
      return problems
    }
  }

  // MARK: QEMU

  private static func stream(pageCount: Int) -> [UInt8] {
    var stream = QEMUStreamBuilder()
    stream.header(capabilities: ["x-ignore-shared"])
    stream.ramStart([("pc.ram", pageCount)], addresses: true)
    stream.ramPart(3)
    stream.ramEnd()
    stream.devices()
    return stream.bytes
  }

  private func answer(_ name: String, _ arguments: [String: String]) -> FakeQEMU.Answer? {
    let size = String(byteCount, radix: 16)
    switch (name, arguments["path"], arguments["property"]) {
    case ("query-status", _, _):
      return .result(#"{"status": "\#(isRunning ? "running" : "paused")"}"#)
    case ("query-migrate-capabilities", _, _):
      return .result(#"[{"capability": "x-ignore-shared", "state": false}]"#)
    case ("query-memdev", _, _): return .result(#"[{"id": "pc.ram", "share": true}]"#)
    case ("query-memory-devices", _, _): return .result("[]")
    case ("qom-get", "/machine", "memory-backend"): return .result(#""/objects/pc.ram""#)
    case ("qom-get", "/machine", "type"): return .result(#""pc-q35-7.2-machine""#)
    case ("qom-get", "/objects/pc.ram", "type"): return .result(#""memory-backend-file""#)
    case ("qom-get", "/objects/pc.ram", "size"): return .result("\(byteCount)")
    case ("qom-get", .some(let path), "addr") where path.contains("ram-below-4g"):
      return .result("0")
    case ("qom-get", .some(let path), "size") where path.contains("ram-below-4g"):
      return .result("\(byteCount)")
    case ("human-monitor-command", _, _):
      if arguments["command-line"] == "info mtree -f" {
        let last = String(byteCount - 1, radix: 16)
        return .result(
          #""FlatView #0\r\n AS \"memory\", root: system\r\n  0000000000000000-\#(last) (prio 0, ram): pc.ram\r\n""#
        )
      }
      let address = String(UInt(bitPattern: memory), radix: 16)
      return .result(#""Host virtual address for 0x0 (pc.ram) is 0x\#(address) size \#(size)""#)
    default: return nil
    }
  }
}
