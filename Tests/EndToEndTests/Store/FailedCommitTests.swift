import Glibc
import Testing
import VMCheckpointTestSupport

/// A commit of a long transaction that fails: the rollback restores what was written to the store, puts nothing else down,
/// and takes the journal off the disk.
@Suite struct FailedCommitTests {
  private let bench: Workbench
  private let faults: FaultLibrary
  private let base = sampleRAM(300)
  private let ram = incompressibleRAM(600, seed: 1)
  private let source: String
  private let original: [UInt8]

  init() throws {
    bench = try Workbench()
    faults = try FaultLibrary()
    try bench.save("base", base)
    source = try bench.write("ram", ram)
    original = try readFile(bench.storePath)
  }

  private var journalPath: String { bench.storePath + "-journal" }

  /// Saves into the store as it was at first, and commits once. A save that a busy machine holds up commits what it
  /// has beforehand, so that others can write: it is made again.
  ///
  /// - Parameter whole: The calls of a save that did not fail, which one that fails makes as well until then.
  private func save(
    failingCall: Int,
    like whole: [FaultLibrary.StoreCall] = []
  ) throws -> (outcome: ProcessOutcome, calls: [FaultLibrary.StoreCall]) {
    func names(_ calls: some Sequence<FaultLibrary.StoreCall>) -> [String] {
      calls.map { "\($0.file) \($0.kind)" }
    }
    let expected = names(whole.prefix(max(failingCall - 1, 0)))
    for _ in 0..<10 {
      let made = try saveOnce(failingCall: failingCall)
      let isAsExpected =
        whole.isEmpty
        ? names(made.calls).count { $0 == "store sync" } == 1
        : names(made.calls.prefix(expected.count)) == expected && made.calls.count >= failingCall
      if isAsExpected { return made }
    }
    throw TestSetupError(
      "no save makes the calls that the whole one made, up to the \(failingCall)th"
    )
  }

  private func saveOnce(
    failingCall: Int
  ) throws -> (outcome: ProcessOutcome, calls: [FaultLibrary.StoreCall]) {
    try writeFile(bench.storePath, original)
    unlink(journalPath)
    try faults.forgetCalls()
    let outcome = try run(
      bench.tool.commandLine(["save", source, "--name", "x"]),
      environment: faults.environment(failingStoreCall: failingCall)
    )
    return (outcome, faults.storeCalls)
  }

  /// Expects the store's pages to be what they were, and a journal that counts for nobody.
  private func expectAsBefore(
    _ context: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let isSame = try readFile(bench.storePath).prefix(original.count).elementsEqual(original)
    #expect(isSame, "\(context)", sourceLocation: sourceLocation)
    let journal = try? readFile(journalPath)
    #expect(journal?.isEmpty != false, "\(context)", sourceLocation: sourceLocation)
  }

  @Test func anyFailedCallOfACommitLeavesTheStoreAsItWas() throws {
    let (whole, calls) = try save(failingCall: 0)
    try #require(whole.succeeded, "\(whole)")
    // The journal's body and its first sector, the pages that were held, and the journal's end.
    let begin = try #require(calls.firstIndex { $0.file == "journal" })
    let real = try #require(calls[begin...].firstIndex { $0.file == "store" })
    #expect(calls[begin..<real].filter { $0.kind == "sync" }.count == 2)
    #expect(
      calls.suffix(3).map { "\($0.file) \($0.kind)" } == [
        "store sync", "journal cut", "journal sync",
      ]
    )
    #expect(real - begin >= 5 && calls.count - real >= 5)

    // The call before is the last one that writes early.
    for number in begin..<calls.count {
      let (outcome, made) = try save(failingCall: number, like: calls)
      let failed = try #require(made.firstIndex { $0.hasFailed })
      let after = made[(failed + 1)...]
      let context = "call \(number): \(outcome) \(made[failed]) \(after)"
      #expect(outcome.ending == .exit(74), "\(context)")
      try expectAsBefore(context)
      #expect(try fileSize(bench.storePath).byteCount == original.count, "\(context)")
      // After a loss of power an older size of the journal could be its size again.
      let ofJournal = after.filter { $0.file == "journal" }.map(\.kind)
      if failed > begin - 1 { #expect(ofJournal.suffix(2) == ["cut", "sync"], "\(context)") }
      if failed < real {
        // Nothing is there to be restored, so that readers need not be kept out.
        #expect(after.allSatisfy { $0.kind != "write" }, "\(context)")
      } else {
        let sync = after.firstIndex { $0.file == "store" && $0.kind == "sync" } ?? 0
        let cut = after.lastIndex { $0.file == "journal" && $0.kind == "cut" } ?? 0
        #expect(after.lastIndex { $0.kind == "write" } ?? .max < sync && sync < cut, "\(context)")
      }
    }
    #expect(try bench.problems(expecting: [("base", base)]) == [])
  }

  /// The transaction counts then, but a loss of power could bring the journal back, and so undo it.
  @Test func aSaveWhoseLastSyncFailsIsSyncedAgain() throws {
    let (_, calls) = try save(failingCall: 0)
    let (outcome, again) = try save(failingCall: calls.count, like: calls)
    expectSuccess(outcome)
    let failed = try #require(again.firstIndex { $0.hasFailed })
    #expect(
      again[(failed + 1)...].contains { $0.file == "journal" && $0.kind == "sync" },
      "\(again.suffix(3))"
    )
    #expect(try bench.problems(expecting: [("base", base), ("x", ram)]) == [])
  }

  /// A second attempt at the commit would keep the user waiting again, and leave a journal that others play back.
  @Test func aCommitThatReadersKeepOutPutsNothingDownWhenItGivesUp() throws {
    let (ready, go) = (bench.directory.file("ready"), bench.directory.file("go"))
    let script = try bench.write(
      "script",
      """
      BEGIN;
      SELECT count(*) FROM snapshot;
      .shell touch '\(ready)'; while [ ! -e '\(go)' ]; do sleep 0.05; done
      COMMIT;
      """
    )
    let reader = try ChildProcess(
      ["/bin/sh", "-c", "exec sqlite3 \"$0\" <\"$1\"", bench.storePath, script]
    )
    defer { try? writeFile(go, "") }
    try waitUntil("the reader reads") { exists(ready) }
    try faults.forgetCalls()
    let outcome = try run(
      bench.tool.commandLine(["save", source, "--name", "x", "--no-wait"]),
      environment: faults.environment(failingStoreCall: 0)
    )
    #expect(outcome.ending == .exit(75), "\(outcome)")
    try expectAsBefore("while the reader reads")
    let calls = faults.storeCalls
    let cut = try #require(calls.lastIndex { $0.file == "journal" && $0.kind == "cut" })
    let journal = calls.filter { $0.file == "journal" && $0.kind != "write" }.map(\.kind)
    #expect(journal == ["cut", "sync", "sync", "cut", "sync"], "\(calls)")
    #expect(calls[cut...].allSatisfy { $0.kind != "write" }, "\(calls)")
    try writeFile(go, "")
    #expect(try reader.wait().succeeded)
    #expect(try bench.problems(expecting: [("base", base)]) == [])
  }
}
