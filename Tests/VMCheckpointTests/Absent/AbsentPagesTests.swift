import Testing
import VMCheckpoint
import VMCheckpointCore
import VMCheckpointTestSupport

/// Runs of absent pages against sets of pages.
@Suite struct AbsentPagesTests {
  private static func pages(_ runs: [Range<UInt64>]) -> AbsentPages {
    runs.reduce(into: AbsentPages()) { $0.append($1) }
  }

  /// Runs below 64, and the same as a set.
  private static func random(_ generator: inout TestGenerator) -> (AbsentPages, Set<UInt64>) {
    let set = Set((0..<UInt64(64)).filter { _ in generator.next() % 3 == 0 })
    return (pages(set.sorted().map { $0..<($0 + 1) }), set)
  }

  private static func set(_ pages: AbsentPages) -> Set<UInt64> { Set(pages.runs.joined()) }

  private static func isCanonical(_ pages: AbsentPages) -> Bool {
    pages.runs.allSatisfy { !$0.isEmpty }
      && zip(pages.runs, pages.runs.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound }
      && pages.pageCount == UInt64(set(pages).count)
  }

  @Test func operationsAreThoseOfSets() throws {
    var generator = TestGenerator(seed: 7)
    for _ in 0..<2000 {
      let (a, left) = Self.random(&generator)
      let (b, right) = Self.random(&generator)
      #expect(Self.isCanonical(a) && Self.set(a) == left)
      let union = a.union(b)
      #expect(Self.isCanonical(union) && Self.set(union) == left.union(right))
      let rest = a.removing(right.sorted())
      #expect(Self.isCanonical(rest) && Self.set(rest) == left.subtracting(right))
      for pfn in 0..<UInt64(66) {
        #expect(a.contains(PFN(rawValue: pfn)!) == left.contains(pfn))
        // The first absent page from here on is the run's, or the run has begun before.
        let next = left.filter { $0 >= pfn }.min()
        #expect(a.run(endingAfter: pfn).map { max($0.lowerBound, pfn) } == next)
      }
    }
  }

  @Test func onlyRAMCanBeAbsent() throws {
    let layout = try RAMLayout(regions: [
      MemoryRegion(gpa: 0, byteCount: 16 << 12, fileOffset: 0, name: "low"),
      MemoryRegion(gpa: 16 << 12, byteCount: 16 << 12, fileOffset: 16 << 12, name: "next"),
      MemoryRegion(gpa: 64 << 12, byteCount: 16 << 12, fileOffset: 32 << 12, name: "high"),
    ])
    for runs in [[0..<32], [0..<1, 31..<32, 64..<80], []] as [[Range<UInt64>]] {
      #expect(Self.pages(runs).problem(in: layout) == nil)
    }
    for runs in [[0..<33], [40..<41], [63..<65], [79..<81], [1 << 52..<(1 << 52 + 1)]]
      as [[Range<UInt64>]]
    {
      #expect(Self.pages(runs).problem(in: layout) != nil)
    }
  }
}
