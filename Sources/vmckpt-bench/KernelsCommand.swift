import ArgumentParser
import CLZ4
import Foundation
import VMCheckpoint

/// The kernels, each beside what bounds it.
struct KernelsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kernels",
    abstract: "Measure the kernels of saves and restores on one thread.",
    discussion: """
      Beside each kernel, each run measures memcpy and, where LZ4 is used, the bare functions of \
      liblz4, over the same bytes and one after the other. Times are processor time, so that other \
      programs matter little. Index lookups are given in pages of 4096 bytes, too.
      """
  )

  @Option(help: "RAM to measure on. Without it, 256 MiB are made up.")
  var image: String?

  @Option(help: "How much of the image is used, in MiB.")
  var size = 256

  @Option(help: "How often each is measured.")
  var runs = 7

  @Option(help: "Pages in the index that is looked up in.")
  var indexPages = 1_000_000

  @Option(help: "Where to write scratch files.")
  var directory = FileManager.default.temporaryDirectory.path

  @Flag(help: "Print JSON instead of a table.")
  var json = false

  func validate() throws {
    guard (1...99).contains(runs), (1...(64 << 10)).contains(size),
      (1...100_000_000).contains(indexPages)
    else { throw ValidationError("That many are not measured.") }
  }

  func run() throws {
    let image =
      try self.image.map { try BenchImage(path: $0, byteCount: size << 20) }
      ?? BenchImage(syntheticByteCount: size << 20)
    let scratch = "\(directory)/vmckpt-bench-\(UUID().uuidString)"
    try FileManager.default.createDirectory(
      atPath: scratch,
      withIntermediateDirectories: false,
      attributes: [.posixPermissions: 0o700]
    )
    defer { try? FileManager.default.removeItem(atPath: scratch) }
    var bench = try KernelBench(image, scratch: scratch, indexPageCount: indexPages)
    for _ in 0..<runs { try bench.run() }
    let report = bench.report
    if json { return try printJSON(report) }
    print(report.markdown)
  }
}

/// Medians of all runs.
struct KernelReport: Encodable {
  struct Kernel: Encodable {
    var name: String
    var bytes: Int
    var bytesPerSecond: Double
    var memcpyBytesPerSecond: Double
    /// `nil` where LZ4 has no part.
    var lz4BytesPerSecond: Double?
    /// Of a lookup, which no memcpy bounds; `nil` for others.
    var secondsPerPage: Double?
  }

  var image: String
  var runs: Int
  var storedBytes: Int
  var dataBytes: Int
  var kernels: [Kernel]

  var markdown: String {
    func speed(_ value: Double?) -> String { value.map { decimal($0 / 1e9) + " GB/s" } ?? "" }
    func ratio(_ value: Double, _ limit: Double?) -> String {
      limit.map { " (\(decimal(value / $0)))" } ?? ""
    }
    let rows = kernels.map { kernel in
      if let seconds = kernel.secondsPerPage {
        return [kernel.name, decimal(seconds * 1e6) + " µs a page", "", ""]
      }
      return [
        kernel.name, speed(kernel.bytesPerSecond),
        speed(kernel.memcpyBytesPerSecond)
          + ratio(kernel.bytesPerSecond, kernel.memcpyBytesPerSecond),
        speed(kernel.lz4BytesPerSecond) + ratio(kernel.bytesPerSecond, kernel.lz4BytesPerSecond),
      ]
    }
    return """
      \(image), \(dataBytes >> 20) MiB of it not zero, stored in \(storedBytes >> 20) MiB; one \
      thread, medians of \(runs) runs; in brackets the kernel's part of the limit's speed.

      """ + "\n" + markdownTable(["kernel", "speed", "memcpy", "bare LZ4"], rows)
  }
}
