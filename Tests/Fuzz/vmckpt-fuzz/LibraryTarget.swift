import CFuzzHost
import Foundation
import Glibc
import Synchronization
import VMCheckpoint
import VMCheckpointTestSupport

/// The library's operations, and so vmckpt's commands, on stores that are damaged or made to mislead.
struct LibraryTarget: FuzzTarget {
  private let template: [UInt8]
  private let directory: TemporaryDirectory
  private let sink: CInt
  private let alarm = Alarm()

  init(_ setting: FuzzSetting) {
    // Opening a store checks nothing that this takes away.
    template = FuzzStore.withoutChecks(setting.store)
    directory = setting.directory
    sink = open("/dev/null", O_WRONLY | O_CLOEXEC)
  }

  func run(_ data: UnsafePointer<UInt8>?, _ count: Int) throws {
    var input = FuzzInput(data, count)
    let first = input.choice(of: 9)
    guard let database = StoreMutation.apply(&input, to: template) else { return }
    let image = FuzzStore.bytes(of: database)
    fuzz_close(database)
    let path = directory.file("store.db")
    try writeFile(path, image)
    let store = try Store.open(at: path)
    for step in 0..<3 {
      do {
        try operate(on: store, (first + step) % 9)
      } catch is VMCheckpointError {
        continue
      }
    }
  }

  private func operate(on store: Store, _ operation: Int) throws {
    // A store that was made to mislead may keep a query busy for ever; it can be interrupted.
    let control = OperationControl()
    alarm.set(control.cancellation, seconds: 2)
    defer { alarm.clear() }
    switch operation {
    case 0:
      _ = try store.snapshots()
      _ = try store.statistics()
    case 1: _ = try store.verify([], control: control)
    case 2: _ = try store.diff(SnapshotReference("a"), SnapshotReference("b"), control: control)
    case 3:
      // Without RAM of terabytes, all of which would be written.
      guard try store.snapshot(SnapshotReference("a")).summary.ramByteCount < 1 << 24 else {
        return
      }
      _ = try store.restore(
        RestoreRequest(
          reference: SnapshotReference("a"),
          output: .stream(fileDescriptor: sink),
          verifiesPages: true
        ),
        control: control
      )
    case 4: _ = try store.map(of: SnapshotReference("b"), maximumCellCount: 64, control: control)
    case 5:
      for query in StoreQuery.all where !query.needsFunctions {
        _ = try? store.answer(
          query,
          arguments: ["pfn": "3", "other_vm": "w", "vm": "v", "other": "b", "snapshot": "a"].filter
          {
            entry in query.parameters.contains { $0.name == entry.key }
          },
          control: control
        )
      }
    case 6: _ = try store.collectGarbage(dryRun: true, control: control)
    case 7: _ = try store.delete([SnapshotReference("b")], control: control)
    default: _ = try store.collectGarbage(control: control)
    }
  }

  var seeds: [[UInt8]] {
    (0..<9).flatMap { operation in
      [0, 7, 9, 12, 14, 15].map {
        [UInt8(operation), 0, 1, UInt8($0), UInt8(operation), 1, 0, 0, 1, 7]
      }
    }
  }
}

/// Cancels an operation that takes too long: one that does not end then is a hang, for libFuzzer.
final class Alarm: Sendable {
  private struct State {
    var flag: CancellationFlag?
    var deadlineSeconds = 0
  }

  private let state = Mutex(State())

  init() {
    Thread.detachNewThread { [self] in
      while true {
        usleep(100_000)
        state.withLock { state in
          if time(nil) > state.deadlineSeconds { state.flag?.cancel() }
        }
      }
    }
  }

  func set(_ flag: CancellationFlag, seconds: Int) {
    state.withLock { $0 = State(flag: flag, deadlineSeconds: time(nil) + seconds) }
  }

  func clear() { state.withLock { $0.flag = nil } }
}
