import Foundation
import Testing
import VMCheckpoint
import VMCheckpointTestSupport

/// Waiting for a store that another program has for itself ends when the operation is cancelled.
@Suite struct BusyStoreTests {
  @Test func aCancelledDiffDoesNotWaitForABusyStore() throws {
    let directory = try TemporaryDirectory()
    let path = directory.file("store.db")
    try writeSparseFile(directory.file("ram"), sampleRAM(20))
    let store = try Store.openOrCreate(at: path)
    _ = try store.save(SaveRequest(input: .file(path: directory.file("ram")), name: "s"))
    let holder = try StoreReader(path, isExclusive: true)
    let control = OperationControl()
    let diff = ThreadResult {
      Result { () throws(VMCheckpointError) in
        let reference = try SnapshotReference("s")
        return try store.diff(reference, reference, control: control)
      }
    }
    usleep(300_000)
    let start = monotonicSeconds()
    control.cancellation.cancel()
    let result = diff.wait()
    let elapsedSeconds = monotonicSeconds() - start
    try holder.end()
    // It would wait a minute.
    #expect(elapsedSeconds < 50)
    #expect(throws: VMCheckpointError(.cancelled, "interrupted")) { try result.get() }
  }
}
