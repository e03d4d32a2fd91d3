import Testing
import VMCheckpointTestSupport

/// QEMU sends every page once, zeros as well. What never came is unknown, and must not become zeros silently.
@Suite struct QEMUUnsentPagesTests {
  private let bench: Workbench
  private static let ram = incompressibleRAM(64)

  init() throws { bench = try Workbench() }

  /// A guest with a ROM, without some of its pages.
  private static func stream(without unsent: Set<Int>, romPageCount: Int = 2) -> [UInt8] {
    var stream = QEMUStreamBuilder()
    stream.header(machine: "pc-q35-7.2")
    stream.ramStart([("pc.ram", 64), ("pc.bios", 2)])
    stream.ramPart(3)
    for index in 0..<64 where !unsent.contains(index) {
      stream.page("pc.ram", index, Array(ram[(index * 4096)...].prefix(4096)))
    }
    for index in 0..<romPageCount {
      stream.page("pc.bios", index, [UInt8](repeating: UInt8(index + 3), count: 4096))
    }
    stream.ramEnd()
    stream.devices()
    return stream.bytes
  }

  private func expectAbsent(
    _ outcome: ProcessOutcome,
    _ name: String,
    source: String,
    _ unsent: Set<Int>
  ) throws {
    #expect(outcome.succeeded, "\(outcome)")
    #expect(
      outcome.standardError
        == "vmckpt: warning: QEMU stream \"\(source)\": \(unsent.count) pages were not sent, as with free page "
        + "hints of virtio-balloon, and are recorded as absent\n"
    )
    let absent = try bench.sql.run(
      "SELECT first_pfn, page_count FROM absent_range WHERE snapshot_id ="
        + " (SELECT id FROM snapshot WHERE name = '\(name)') ORDER BY first_pfn"
    )
    let pages = absent.split(separator: "\n").flatMap { line in
      let numbers = line.split(separator: "|").compactMap { Int($0) }
      return Array(numbers[0]..<(numbers[0] + numbers[1]))
    }
    #expect(Set(pages) == unsent)
    var expected = Self.ram
    for page in unsent {
      expected.replaceSubrange(
        (page * 4096)..<((page + 1) * 4096),
        with: [UInt8](repeating: 0, count: 4096)
      )
    }
    #expect(try bench.restore(name) == expected)
  }

  @Test(arguments: [[0], [9], [63], Array(32..<64), Array(1..<64)])
  func pagesThatWereNotSentAreAbsent(unsent: [Int]) throws {
    let unsent = Set(unsent)
    let stream = Self.stream(without: unsent)
    let path = try bench.write("stream", stream)
    let outcome = try bench.tool.run("save", path, "--name", "file")
    try expectAbsent(outcome, "file", source: path, unsent)
    let pipe = try ChildPipe()
    let child = try bench.tool.start(
      ["save", "qemu-stream:-", "--name", "pipe"],
      input: .descriptor(pipe.reader)
    )
    try pipe.write(stream)
    pipe.closeWriter()
    try expectAbsent(child.wait(), "pipe", source: "stdin", unsent)
  }

  @Test(arguments: [0, 1])
  func aROMThatLacksPagesIsRefused(pageCount: Int) throws {
    let path = try bench.write("stream", Self.stream(without: [], romPageCount: pageCount))
    expectFailure(
      try bench.tool.run("save", path),
      65,
      "RAM block \"pc.bios\" has \(pageCount) of its 2 pages in the stream; the migration failed or was "
        + "interrupted; take the stream again"
    )
    #expect(!exists(bench.storePath))
  }
}
