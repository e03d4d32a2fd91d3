import ArgumentParser
import Glibc

/// Writes RAM whose pages are all different and compress to almost nothing: fills a store with many
/// pages in little space.
struct PagesCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pages",
    abstract: "Write pages to standard output, each of them different.",
    discussion: """
      For a store with 20 million pages, in 80 GB of RAM that take about 1 GB:
        vmckpt-bench pages 20000000 | vmckpt save - --name filler --store large.db
      """
  )

  @Argument(help: "How many.")
  var count: Int

  @Option(help: "The number in the first page; the others count on.")
  var first = 1

  func run() throws {
    guard count >= 0, first > 0 else { throw ValidationError("Give positive numbers.") }
    let pagesPerWrite = 256
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: pagesPerWrite * BenchImage.pageByteCount,
      alignment: BenchImage.pageByteCount
    )
    defer { buffer.deallocate() }
    buffer.initializeMemory(as: UInt8.self, repeating: 0)
    var done = 0
    while done < count {
      let pages = min(pagesPerWrite, count - done)
      for page in 0..<pages {
        buffer.storeBytes(
          of: UInt64(first + done + page).littleEndian,
          toByteOffset: page * BenchImage.pageByteCount,
          as: UInt64.self
        )
      }
      try writeAll(buffer.baseAddress!, byteCount: pages * BenchImage.pageByteCount)
      done += pages
    }
  }

  private func writeAll(_ bytes: UnsafeRawPointer, byteCount: Int) throws {
    var done = 0
    while done < byteCount {
      let result = write(STDOUT_FILENO, bytes + done, byteCount - done)
      if result > 0 {
        done += result
      } else if errno != EINTR {
        throw BenchError("cannot write: \(String(cString: strerror(errno)))")
      }
    }
  }
}
