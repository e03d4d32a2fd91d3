import GRDB
import Synchronization

/// Recomputes chunks: the LZ4 frame's checksum, and the SHA-256 of every page.
struct ChunkVerifier {
  /// Chunks read in one transaction, so that writers can commit in between.
  private static let chunksPerTransaction = 128

  let control: OperationControl

  struct Findings {
    /// What is wrong with each damaged chunk.
    var problems: [Int64: String] = [:]
    /// What is wrong with the rows of chunks whose pages are whole.
    var rowProblems: [Int64: String] = [:]
    var chunkCount: UInt64 = 0
    var pageCount: UInt64 = 0
    var storedByteCount: UInt64 = 0
  }

  /// Checks the chunks with these ids; one that is missing is damaged.
  ///
  /// - Throws: ``VMCheckpointError`` when cancelled.
  func run(_ database: Database, chunkIDs: [Int64]) throws -> Findings {
    var findings = Findings()
    let found = ProblemTable()
    let rowProblems = ProblemTable()
    // Another check reports a missing row in `store`; the pages can be checked without it.
    let fingerprinter = try? PageFingerprinter(database)
    try WorkerPool<ChunkBuffer>.run(
      threadCount: control.threadCount,
      items: try ChunkBuffer.make(control.threadCount * 8 + 16),
      makeWorker: { () throws(VMCheckpointError) in
        let decoder = try LZ4FrameDecoder()
        return { chunk throws(VMCheckpointError) in
          if let problem = chunk.decompress(with: decoder, check: .digests) {
            found.add(chunk.chunkID, problem)
          } else if let problem = fingerprinter.flatMap({ chunk.fingerprintProblem($0) }) {
            rowProblems.add(chunk.chunkID, problem)
          }
        }
      },
      produce: { pool in try read(database, chunkIDs, into: pool, found, rowProblems, &findings) }
    )
    findings.problems = found.all
    findings.rowProblems = rowProblems.all
    return findings
  }

  private final class ProblemTable: Sendable {
    private let problems = Mutex<[Int64: String]>([:])
    /// Keeps the first for each chunk: others may follow from it.
    func add(_ chunkID: Int64, _ problem: String) {
      problems.withLock { if $0[chunkID] == nil { $0[chunkID] = problem } }
    }
    var all: [Int64: String] { problems.withLock { $0 } }
  }

  private func read(
    _ database: Database,
    _ chunkIDs: [Int64],
    into pool: WorkerPool<ChunkBuffer>,
    _ found: ProblemTable,
    _ rowProblems: ProblemTable,
    _ findings: inout Findings
  ) throws {
    let reader = try ChunkReader(database)
    var progress = ProgressReporter(
      control,
      phase: "verifying",
      totalByteCount: UInt64(chunkIDs.count * ChunkFormat.byteCapacity)
    )
    var rest = chunkIDs[...]
    while !rest.isEmpty {
      try control.cancellation.check()
      try database.inTransaction(.deferred) {
        for chunkID in rest.prefix(Self.chunksPerTransaction) {
          let chunk = try pool.takeFree()
          chunk.begin(chunkID: chunkID)
          if let problem = try load(chunkID, reader, into: chunk, rowProblems) {
            found.add(chunkID, problem)
            // Nothing to check; the buffer goes round all the same.
            chunk.makeEmpty(chunkID: chunkID)
          }
          findings.chunkCount += 1
          findings.pageCount += UInt64(chunk.pageCount)
          findings.storedByteCount += UInt64(chunk.storedByteCount)
          pool.submit(chunk)
        }
        // After a damaged page SQLite refuses to commit even what only read.
        return .rollback
      }
      rest = rest.dropFirst(Self.chunksPerTransaction)
      progress.report(
        completedByteCount: findings.chunkCount * UInt64(ChunkFormat.byteCapacity)
      )
    }
  }

  /// A damaged database page makes SQLite fail: then only this chunk is lost.
  private func load(
    _ chunkID: Int64,
    _ reader: ChunkReader,
    into chunk: ChunkBuffer,
    _ rowProblems: ProblemTable
  ) throws -> String? {
    do {
      if let problem = try reader.load(chunkID, into: chunk) { return problem }
      if chunk.statedByteCount != Int64(chunk.storedByteCount) {
        rowProblems.add(
          chunkID,
          """
          its row says \(chunk.statedByteCount) stored bytes, and there are \(chunk.storedByteCount)
          """
        )
      }
      return nil
    } catch let error as DatabaseError where error.resultCode.isDamage {
      return "it cannot be read: \(error.message ?? "\(error.resultCode)")"
    }
  }
}

extension ResultCode {
  /// Whether the file is damaged.
  var isDamage: Bool { [.SQLITE_CORRUPT, .SQLITE_NOTADB].contains(primaryResultCode) }
}
