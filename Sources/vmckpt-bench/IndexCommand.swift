import ArgumentParser
import Foundation
import VMCheckpoint
import VMCheckpointKernels

/// How the page index grows.
struct IndexCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "index",
    abstract: "Measure lookups and inserts in a growing page index.",
    discussion: """
      Pages come in saves of 100,000 and have made-up digests; 20 million take 1.1 GB of disk and a \
      minute or two. Times are processor time of one thread.
      """
  )

  /// As many new pages as a save of 1 GiB may have.
  private static let pagesPerSave = 100_000
  private static let lookUpCount = 200_000

  @Option(help: "Numbers of pages at which lookups are measured, ascending, with commas.")
  var sizes = "100000,1000000,10000000,20000000"

  @Option(help: "How often lookups are measured at each size.")
  var runs = 5

  @Option(help: "Where to write the store.")
  var directory = FileManager.default.temporaryDirectory.path

  @Flag(help: "Print JSON instead of a table.")
  var json = false

  func run() throws {
    let sizes = self.sizes.split(separator: ",").map { Int($0) ?? 0 }
    guard !sizes.isEmpty, sizes == sizes.sorted(), sizes.allSatisfy({ $0 > 0 }),
      (1...99).contains(runs)
    else { throw ValidationError("Give ascending sizes, and runs of 1 to 99.") }
    let scratch = "\(directory)/vmckpt-bench-\(UUID().uuidString)"
    try FileManager.default.createDirectory(
      atPath: scratch,
      withIntermediateDirectories: false,
      attributes: [.posixPermissions: 0o700]
    )
    defer { try? FileManager.default.removeItem(atPath: scratch) }
    let index = try IndexScaleProbe(path: "\(scratch)/index.db", seed: 1)
    let points = try sizes.map { size in
      let inserts = try grow(index, to: size)
      FileHandle.standardError.write(Data("vmckpt-bench: \(size) pages\n".utf8))
      return try lookUp(in: index, inserts)
    }
    if json { return try printJSON(points) }
    print(Self.markdown(points))
  }

  /// What it took to come to a size from the one before.
  private struct Inserts {
    var pageCount = 0
    var appendSeconds = 0.0
    var mergeSeconds = 0.0
    var longestMergeSeconds = 0.0
    var writtenByteCount = 0
  }

  private func grow(_ index: IndexScaleProbe, to size: Int) throws -> Inserts {
    var inserts = Inserts()
    while index.pageCount < size {
      let count = min(Self.pagesPerSave, size - index.pageCount)
      try index.insertChunks(count)
      let before = writtenByteCount()
      inserts.pageCount += count
      inserts.appendSeconds += try measure { try index.append() }
      let mergeSeconds = try measure { try index.merge() }
      inserts.mergeSeconds += mergeSeconds
      inserts.longestMergeSeconds = max(inserts.longestMergeSeconds, mergeSeconds)
      inserts.writtenByteCount += writtenByteCount() - before
    }
    return inserts
  }

  private func lookUp(in index: IndexScaleProbe, _ inserts: Inserts) throws -> IndexPoint {
    func nanoseconds(present: Bool) throws -> (first: Double, again: Double) {
      let times = try (0..<runs).map { _ in
        let result = try index.lookUp(Self.lookUpCount, present: present, clock: threadSeconds)
        guard result.foundCount == (present ? Self.lookUpCount : 0) else {
          throw BenchError("\(result.foundCount) of \(Self.lookUpCount) pages were found")
        }
        return result
      }
      let scale = 1e9 / Double(Self.lookUpCount)
      return (
        median(times.map(\.firstSeconds)) * scale, median(times.map(\.againSeconds)) * scale
      )
    }
    let (absent, present) = (try nanoseconds(present: false), try nanoseconds(present: true))
    let insertCount = Double(max(1, inserts.pageCount))
    return IndexPoint(
      pages: index.pageCount,
      runs: try index.runSizes().count,
      absentLookupNanoseconds: absent.again,
      absentFirstLookupNanoseconds: absent.first,
      presentLookupNanoseconds: present.again,
      insertNanoseconds: (inserts.appendSeconds + inserts.mergeSeconds) / insertCount * 1e9,
      writtenBytesPerInsert: Double(inserts.writtenByteCount) / insertCount,
      longestMergeSeconds: inserts.longestMergeSeconds
    )
  }

  /// What this process has had written to disks so far.
  private func writtenByteCount() -> Int {
    let text = (try? String(contentsOfFile: "/proc/self/io", encoding: .utf8)) ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix("write_bytes: ") }
    return line.flatMap { Int($0.dropFirst("write_bytes: ".count)) } ?? 0
  }

  private static func markdown(_ points: [IndexPoint]) -> String {
    markdownTable(
      [
        "pages in the index", "runs", "lookup, not there", "the first of a save", "lookup, there",
        "insert", "written for it", "longest merge",
      ],
      points.map { point in
        [
          "\(Double(point.pages) / 1e6) million", "\(point.runs)",
          decimal(point.absentLookupNanoseconds / 1000) + " µs",
          decimal(point.absentFirstLookupNanoseconds / 1000) + " µs",
          decimal(point.presentLookupNanoseconds / 1000) + " µs",
          decimal(point.insertNanoseconds / 1000) + " µs",
          decimal(point.writtenBytesPerInsert, 0) + " B",
          decimal(point.longestMergeSeconds) + " s",
        ]
      }
    )
  }
}

/// The index at one size. Inserts are those since the size before.
struct IndexPoint: Encodable {
  var pages: Int
  var runs: Int
  var absentLookupNanoseconds: Double
  /// With the filters to be read, over 200,000 lookups.
  var absentFirstLookupNanoseconds: Double
  var presentLookupNanoseconds: Double
  var insertNanoseconds: Double
  var writtenBytesPerInsert: Double
  var longestMergeSeconds: Double
}
